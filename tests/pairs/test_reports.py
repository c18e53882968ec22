import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vesalius.pairs.reports import clean, image_text, sections, sentences, shorten

REPORT = """EXAMINATION: CHEST, TWO VIEWS

INDICATION: Cough. Rule out pneumonia.

COMPARISON: ___.

FINDINGS: PA and lateral views of the chest were obtained. The heart is normal in size.
There is a small left pleural effusion.

IMPRESSION
1. Small left pleural effusion.
2. No pneumothorax.  Discussed with Dr. ___ by telephone."""


def test_headers_of_every_spelling_part_a_report():
    parts = sections(REPORT)
    assert list(parts) == ["EXAMINATION", "INDICATION", "COMPARISON", "FINDINGS", "IMPRESSION"]
    assert parts["INDICATION"] == "Cough. Rule out pneumonia."
    assert sections("Clear. Impression: normal. Imaging notes: no nodule.") == {
        "": "Clear.",
        "IMPRESSION": "normal.",
        "FINDINGS": "no nodule.",
    }
    assert sections("FINDINGS AND IMPRESSION: Clear.") == {"FINDINGS": "Clear."}
    # words inside a sentence are no header
    assert list(sections("Past findings: see above.")) == [""]


def test_what_the_doctor_was_asked_is_no_caption():
    assert "pneumonia" not in image_text(REPORT)
    assert image_text("Clear lungs.") == "Clear lungs."
    assert image_text("Old scar. IMPRESSION: No change.") == "Old scar.\nNo change."


def test_a_report_becomes_its_sentences_about_the_image():
    everything = shorten(REPORT, lambda _: True)
    assert everything == (
        "The heart is normal in size. There is a small left pleural effusion. "
        "Small left pleural effusion. No pneumothorax."
    )


@pytest.mark.parametrize(
    ("holed", "mended"),
    [
        ("The XXXX are normal.", ""),
        ("Calcified aortic XXXX.", ""),
        ("Infiltrate is XXXX less XXXX but not entirely excluded.", ""),
        ("These XXXX't contours are normal.", ""),
        ("Seen by Dr. [**Last Name (un) 12**] on [**2101-1-1**].", ""),
        ("Exam of xx/xx/xxxx.", ""),
        ("XXXX XXXX opacity in the left base.", "Opacity in the left base."),
        ("No XXXX of pleural effusions.", "No pleural effusions."),
        ("Negative chest x-XXXX.", "Negative chest x-ray."),
        ("Opacities most XXXX representing atelectasis.", "Opacities most likely representing atelectasis."),
        ("Compared with the study of ___, the effusion has grown.", "The effusion has grown."),
        ("Two clips (XXXX) project over the apex.", "Two clips project over the apex."),
        ("<NAME> effusion.", "Effusion."),
    ],
)  # fmt: skip
def test_no_sentence_keeps_a_hole(holed, mended):
    assert clean(f"Lungs clear. {holed} Heart normal.").split() == (
        f"Lungs clear. {mended} Heart normal.".split()
    )


@pytest.mark.parametrize(
    "boilerplate",
    [
        "Comparison: none.",
        "Dictated by Dr. Who.",
        "Electronically signed on Monday.",
        "I have personally reviewed the images.",
        "Findings were discussed with Dr. Who at noon.",
        "The ward was notified.",
        "As above.",
        "PA and lateral views were obtained.",
        "Recommend CT.",
    ],
)
def test_sentences_about_the_paperwork_go(boilerplate):
    assert clean(f"1. Clear lungs. 2. {boilerplate} (3) Normal heart (Fig. 2).") == (
        "Clear lungs. Normal heart."
    )


def test_a_full_stop_is_not_always_an_end():
    text = (
        "Seen by Dr. Smith. A 1.5 cm. nodule at T4. It is, e.g. in the apex.No effusion. no mass\n\n"
        "2 cm. Scar at 38?C of J. Doe (old?) New line."
    )
    assert sentences(text) == [
        "Seen by Dr. Smith.",
        "A 1.5 cm. nodule at T4.",
        "It is, e.g. in the apex.",
        "No effusion.",
        "no mass",
        "2 cm.",
        "Scar at 38?C of J. Doe (old?)",
        "New line.",
    ]


def test_the_most_telling_sentences_stay_in_the_order_of_the_report():
    report = (
        "FINDINGS: Heart is normal. Left effusion. Old scar. "
        "IMPRESSION: New nodule. No pneumothorax. Left effusion."
    )

    def kept(count, informative=()):
        return shorten(report, lambda text: text.count(".") <= count, informative)

    assert kept(1) == "New nodule."  # a finding, and of the impression
    assert kept(2) == "Left effusion. New nodule."
    assert kept(3) == "Left effusion. Old scar. New nodule."
    assert kept(4, ["heart"]) == "Heart is normal. Left effusion. Old scar. New nodule."
    assert kept(1, ["Pneumothorax"]) == "No pneumothorax."
    assert kept(9).count("Left effusion") == 1


def test_a_sentence_that_is_too_long_is_cut_at_a_word():
    assert shorten("One two, three four.", lambda text: len(text) <= 9) == "One two"


@given(st.text(alphabet="aB1.:?! \n()_X<>[]*-", max_size=120), st.integers(0, 60))
@example("1XXX", 0)
@example("No change since 1XXX. Clear.", 60)
def test_any_text_is_shortened_to_what_fits_and_cleaned_of_holes(text, most):
    assert len(shorten(text, lambda part: len(part) <= most)) <= most
    assert "XXX" not in clean(text)
    assert "__" not in clean(text)


@given(st.text(max_size=200))
def test_sentences_lose_no_word(text):
    assert "".join("".join(sentences(text)).split()).count("a") == text.count("a")
