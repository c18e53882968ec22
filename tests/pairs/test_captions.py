import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.pairs.captions import (
    SetDictionary,
    UnknownCode,
    caption,
    choose,
    default_dictionary,
    entry_for,
    fill,
    load_dictionary,
    needed_columns,
    shorten,
)
from vesalius.pairs.tokens import load_counter


def test_a_clause_vanishes_with_its_missing_word():
    template = "dermoscopy, {label}[ on the {site}][ of a {age}-year-old {sex}]"
    assert (
        fill(template, {"label": "melanoma", "site": "back"}) == "dermoscopy, melanoma on the back"
    )
    assert fill(template, {"label": "melanoma", "age": "60"}) == "dermoscopy, melanoma"
    assert fill("lung, {label}, H&E stain", {}) == "lung, H&E stain"


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


@pytest.mark.parametrize("name", ["mini", "eyediff", "medisyn"])
@pytest.mark.parametrize(("code", "side"), [("OD", "right"), ("OS", "left"), ("R", "right")])
def test_an_eye_is_right_or_left_whatever_its_code(name, code, side):
    entry = entry_for(load_dictionary(name), "fundus")
    row = {"label": "glaucoma", "eye": code}
    texts = [caption(row, entry, str(key)) for key in range(20)]
    assert any(side in text for text in texts)
    assert not any(code in text.split() for text in texts)


def test_the_entry_of_a_source_is_its_own_or_the_common_one():
    own, common = SetDictionary(templates=["own"]), SetDictionary(templates=["common"])
    assert entry_for({"a": own, "*": common}, "a") is own
    assert entry_for({"a": own, "*": common}, "b") is common
    assert entry_for({"a": own}, "b") is own
    with pytest.raises(VesaliusError, match=r"no entry for 'c': it has a, b"):
        entry_for({"a": own, "b": common}, "c")


def test_a_code_that_a_closed_column_does_not_list_is_refused_with_its_neighbours():
    entry = SetDictionary(
        templates=["{label}"],
        closed=["label"],
        words={"label": {"melanoma": "melanoma", "nevus": "mole", "0..9": "digit", "x": None}},
    )
    assert caption({"label": "7"}, entry, "k") == "digit"
    assert caption({"label": None}, entry, "k") == caption({"label": "x"}, entry, "k") == ""
    with pytest.raises(UnknownCode, match=r"label 'melanom' is not .*nearest: melanoma"):
        caption({"label": "melanom"}, entry, "k")
    with pytest.raises(UnknownCode, match="it has melanoma, nevus"):
        caption({"label": "10"}, entry, "k")
    with pytest.raises(UnknownCode, match="'zz'"):
        caption({"label": "nevus|zz"}, entry, "k")


def test_several_codes_in_a_cell_are_spoken_as_a_list():
    entry = SetDictionary(
        templates=["{label}[; {caption}]"],
        words={"label": {"E": "effusion", "x": None, "a|b": "ab"}},
    )
    assert caption({"label": "E|mass| E|nodule|x"}, entry, "k") == "effusion, mass and nodule"
    assert caption({"label": "x|E"}, entry, "k") == "effusion"
    assert caption({"label": "a|b"}, entry, "k") == "ab"
    assert caption({"label": "E", "caption": "one|two"}, entry, "k") == "effusion; one|two"


def test_numbers_fall_into_the_ranges_of_a_dictionary():
    ages = {
        "..1": "infant",
        "2..17": "child",
        "18..64.5": "adult",
        "65..": "elderly",
        "99": "very old",
    }
    entry = SetDictionary(templates=["{age}"], words={"age": ages})
    spoken = {
        a: caption({"age": a}, entry, "k") for a in (0, "1", 17.0, "64.5", 65, 99, "unknown", 1.5)
    }
    assert list(spoken.values()) == [
        "infant", "infant", "child", "adult", "elderly", "very old", "unknown", "1.5",
    ]  # fmt: skip


def test_a_missing_number_is_not_spoken():
    assert caption({"age": float("nan")}, SetDictionary(templates=["a[ of {age}]"]), "k") == "a"


def test_without_a_dictionary_the_source_speaks_for_itself():
    entry = entry_for(default_dictionary(), "anything")
    row = {"label": "basal_cell-carcinoma", "caption": "An x|y."}
    assert caption(row, entry, "k") == "An x|y."
    assert caption({"label": row["label"]}, entry, "k") == "basal cell carcinoma"
    assert caption({"label": "COVID-19 x-ray"}, entry, "k") == "COVID-19 x-ray"
    assert caption({}, entry, "k") == ""


def test_the_first_alternative_that_can_be_said_is():
    template = "[{a} of |]b[, {c}|, no {d}]"
    assert fill(template, {"a": "A", "d": "D"}) == "A of b, no D"
    assert fill(template, {"c": "C"}) == "b, C"


def test_columns_that_templates_name_are_known():
    entry = SetDictionary(templates=["{label}[ of the {eye} eye]", "{report}"])
    assert needed_columns(entry) == {"label", "report"}
    assert needed_columns(default_dictionary()["*"]) == set()


def test_a_report_is_shortened_to_the_tokens_of_the_whole_caption():
    counter, best = load_counter("mini"), "chest X-ray. Large left effusion. Mass."
    report = {"tokens": counter.count(best) + 2, "informative": ["effusion"]}
    entry = SetDictionary.model_validate({"templates": ["chest X-ray. {report}"], "report": report})
    row = {
        "findings": "Heart is normal. Large left effusion.",
        "impression": "1. XXXX normal. Mass.",
    }
    assert caption(row, entry, "k") == caption(row, entry, "k", counter) == best
    own = {"report": "A mass.", "caption": "not this"}
    assert caption(own, entry, "k") == "chest X-ray. A mass."
    assert caption({"caption": "A node."}, entry, "k") == "chest X-ray. A node."


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("fundus: {templates: []}", "fundus.templates"),
        ("fundus: {templates: ['a'], words: {label: {x: {y: z}}}}", "fundus.words.label.x"),
        ("fundus: {templates: ['[{a}']}", "fundus.templates: .*bracket"),
        ("fundus: {templates: ['a'], closed: [label]}", "fundus: closed names 'label'"),
        ("fundus: {templates: ['a'], report: {column: b}}", "fundus.report: give either"),
        ("fundus: {templates: ['a'], words: {label: {x: a, x: b}}}", "'x' stands twice"),
        ("- a list", "name of each set"),
    ],
)
def test_what_is_wrong_in_a_dictionary_is_named_in_one_line(tmp_path, content, told):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(VesaliusError, match=told) as raised:
        load_dictionary(str(path))
    assert "\n" not in str(raised.value)


def test_codes_stay_as_they_are_written(tmp_path):
    path = tmp_path / "codes.yaml"
    path.write_text("a: {templates: ['{x}'], words: {x: {no: none, 0: zero, 010: ten, y: null}}}")
    codes = load_dictionary(str(path))["a"].words["x"]
    assert codes == {"no": "none", "0": "zero", "010": "ten", "y": None}


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VesaliusError, match="not valid"):
        load_dictionary(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize(
    ("name", "source", "row", "said"),
    [
        (
            "eyediff",
            "aptos2019",
            {"label": 3},
            "color fundus photograph, severe non-proliferative diabetic retinopathy",
        ),
        ("eyediff", "rop", {"label": "2", "plus": 2, "eye": "OD"},
         "wide-field infant retinal photograph, stage 2 retinopathy of prematurity, ridge, "
         "plus disease, right eye"),
        ("eyediff", "odir", {"label": "D|H", "age": 70, "sex": "Female"},
         "color fundus photograph, diabetic retinopathy and hypertensive retinopathy, female, "
         "older adult"),
        ("eyediff", "elsewhere", {"label": "keratoconus", "modality": "SLP"},
         "slit-lamp photograph, keratoconus"),
        ("medisyn", "diabetic_retinopathy", {"label": "0", "eye": "OS"},
         "fundoscopy image of the left retina with no diabetic retinopathy"),
        ("medisyn", "chest_xray", {"view": "AP", "sex": "M"},
         "AP frontal chest X-ray (CXR) of a male patient"),
        ("medisyn", "chest_xray", {"label": "Edema|Effusion"},
         "chest X-ray (CXR) with pulmonary edema and pleural effusion"),
        ("medisyn", "dermoscopy", {"label": "mel", "age": 70.0, "sex": "unknown"},
         "dermoscopy image of melanoma, elderly"),
        ("medisyn", "elsewhere", {"label": "mitral_valve", "modality": "ultrasound"},
         "ultrasound image with mitral valve"),
        ("textual-inversion", "prostate", {"label": "diseased"}, "<prostate-diseased>"),
        ("textual-inversion", "prostate", {}, "<prostate>"),
        ("textual-inversion", "chest_xray", {"label": "Effusion|Pneumonia"},
         "<cxr-pleural-effusion> and <cxr-pneumonia>"),
        ("chest-diffusion", "anything",
         {"findings": "The XXXX are normal. Clear lungs.", "impression": "1. No acute disease."},
         "Clear lungs. No acute disease."),
        ("chest-diffusion", "anything", {"label": "No Finding"}, "chest X-ray, no finding"),
        ("mini", "fundus", {"label": "glaucoma", "eye": "left"},
         "color fundus photograph of the left eye, glaucoma"),
    ],
)  # fmt: skip
def test_the_papers_dictionaries_say_what_the_papers_do(name, source, row, said):
    assert caption(row, entry_for(load_dictionary(name), source), "key") == said


def test_each_class_of_cytodiff_has_one_sentence_that_clip_reads_whole():
    entry = entry_for(load_dictionary("cytodiff"), "any folder of cells")
    assert len(set(entry.words["label"].values())) == 8
    for code, sentence in entry.words["label"].items():
        texts = {caption({"label": code}, entry, str(key)) for key in range(5)}
        assert texts == {sentence}
        # these words cost CLIP about as many tokens as BERT: 45 at most, of 77
        assert load_counter("mini").count(sentence) <= 60
