import pytest

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.base import ReaderOptions
from vesalius.pairs.readers.columns import attribute_text, describe, find_columns


def test_usual_names_are_recognised_however_they_are_spelt():
    columns = find_columns(["Image Index", "Finding Labels", "PatientID", "Age"], ReaderOptions())
    assert (columns.image, columns.label, columns.group) == (
        "Image Index",
        "Finding Labels",
        "PatientID",
    )
    assert columns.caption is columns.split is None


def test_an_option_wins_and_must_exist():
    names = ["file_name", "label", "grade"]
    assert find_columns(names, ReaderOptions(label_column="grade")).label == "grade"
    with pytest.raises(VesaliusError, match="did you mean 'grade'"):
        find_columns(names, ReaderOptions(label_column="grades"))


def test_a_name_that_stands_twice_is_refused():
    with pytest.raises(VesaliusError, match="'label'"):
        find_columns(["image", "label", "label"], ReaderOptions())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (63.0, "63"),
        (0.5, "0.5"),
        (float("nan"), None),
        (" NaN ", None),
        ("", None),
        ("None", None),
        ("none", "none"),
        (True, "true"),
        (["effusion", None, "edema"], "effusion|edema"),
        ([], None),
        (7, "7"),
        (" left ", "left"),
    ],
)
def test_cells_as_text(value, text):
    assert attribute_text(value) == text


def test_nested_cells_are_json_and_broken_text_is_mended():
    assert attribute_text({"x": [1, "ä"]}) == '{"x": [1, "ä"]}'
    assert attribute_text([["a", 1]]) == '[["a", 1]]'
    assert attribute_text("a\ud800") == "a?"


def test_a_row_is_described_by_its_columns():
    row = {"": 0, "dx": "nv", "lesion_id": "L1", "report": "A naevus.", "age": 63.0, "sex": None}
    said = describe(row, find_columns(list(row), ReaderOptions()))
    assert (said["label"], said["group"], said["split"]) == ("nv", "L1", None)
    assert said["caption"] == "A naevus."
    # dictionaries know the group and the report by the names of their columns
    assert said["attributes"] == {"": "0", "lesion_id": "L1", "report": "A naevus.", "age": "63"}


def test_findings_in_columns_of_their_own_become_one_label():
    names = ["Path", "Edema", "Effusion", "Sex"]
    columns = find_columns(names, ReaderOptions(label_column="Edema, Effusion"))
    rows = [("1.0", "1", "Male"), ("0", "-1.0", "Male"), ("", "true", "Female")]
    labels = [
        describe(dict(zip(names, ("x.jpg", *row), strict=True)), columns)["label"] for row in rows
    ]
    assert labels == ["Edema|Effusion", None, "Effusion"]
    with pytest.raises(VesaliusError, match="no column 'Oedema'"):
        find_columns(names, ReaderOptions(label_column="Oedema,Effusion"))


def test_attributes_get_the_names_that_dictionaries_know():
    columns = find_columns(
        ["image", "View Position", "Patient Age", "Patient Gender"], ReaderOptions()
    )
    row = {"image": "x", "View Position": "PA", "Patient Age": "58.0", "Patient Gender": "F"}
    assert describe(row, columns)["attributes"] == {"view": "PA", "age": "58", "sex": "F"}
