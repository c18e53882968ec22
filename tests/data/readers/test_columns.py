import pytest

from vesalius.data.readers.base import ReaderOptions
from vesalius.data.readers.columns import attribute_text, find_columns
from vesalius.errors import VesaliusError


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
        (True, "true"),
        (["effusion", None, "edema"], "effusion|edema"),
        ([], None),
        (7, "7"),
        (" left ", "left"),
    ],
)
def test_cells_as_text(value, text):
    assert attribute_text(value) == text
