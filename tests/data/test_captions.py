import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.data.captions import SetDictionary, caption, choose, fill, load_dictionary, shorten
from vesalius.errors import VesaliusError


def test_a_clause_vanishes_with_its_missing_word():
    template = "dermoscopy, {label}[ on the {site}][ of a {age}-year-old {sex}]"
    assert (
        fill(template, {"label": "melanoma", "site": "back"}) == "dermoscopy, melanoma on the back"
    )
    assert fill(template, {"label": "melanoma", "age": "60"}) == "dermoscopy, melanoma"


def test_words_synonyms_and_numbers():
    dictionary = SetDictionary(
        templates=["{label}, {age} years"],
        words={"label": {"nv": ["nevus", "mole"], "x": None}},
    )
    texts = {caption({"label": "nv", "age": 60.0}, dictionary, str(k)) for k in range(40)}
    assert texts == {"nevus, 60 years", "mole, 60 years"}


def test_the_choice_depends_on_the_key_alone():
    options = ["a", "b", "c"]
    assert [choose(options, str(k)) for k in range(5)] == [
        choose(options, str(k)) for k in range(5)
    ]
    # pinned: a changed hash would change every caption of a published model
    assert [choose(options, str(k)) for k in range(6)] == ["a", "b", "b", "b", "b", "c"]


def test_reports_keep_the_sentences_about_the_image():
    report = "A man of 50. He lives in Rome. Bilateral opacities are seen. No effusion. He left."
    assert (
        shorten(report, 45, ["opaci", "effusion"]) == "Bilateral opacities are seen. No effusion."
    )


@given(st.text(max_size=300), st.integers(5, 80))
def test_a_shortened_report_never_exceeds_its_length(report, characters):
    assert len(shorten(report, characters, ["lung"])) <= characters


def test_every_template_of_the_bundled_dictionary_speaks_of_the_label():
    for name, entry in load_dictionary("mini").items():
        for template in entry.templates:
            assert "{label}" in template, (name, template)


@pytest.mark.parametrize("content", ["- a list", "set: {templates: 3}", "set: {unknown: 1}", ": :"])
def test_a_broken_dictionary_is_refused(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(VesaliusError, match="not valid"):
        load_dictionary(str(path))


def test_an_unknown_dictionary_is_refused():
    with pytest.raises(VesaliusError, match="no prompt dictionary"):
        load_dictionary("nothing")
