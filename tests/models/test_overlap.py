"""A base that has learned from the user's test images says so before anything is trained."""

import pytest

from vesalius.core.trained_on import TrainedOn
from vesalius.models.overlap import seen_test_images

TABLE = {"sha1": ["a", "b", "c", "d"], "group": ["p", "q", "r", None]}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    columns = {"sha1": ["b", "x"], "group": [None, "r"], "source": ["smears", "retinas"]}
    TrainedOn.of_rows("", columns.__getitem__, range(2)).write(folder)
    return str(folder)


def test_images_and_patients_that_a_model_knows_are_counted_and_named(model):
    said = seen_test_images(model, TABLE.__getitem__, [1, 2, 3])
    assert said
    assert said.startswith("2 of 3 test images, or others of their patients")
    assert "its own sets retinas, smears" in said
    assert "--model" in said
    assert seen_test_images(model, TABLE.__getitem__, [0, 3]) is None
    assert seen_test_images(model, TABLE.__getitem__, []) is None


def test_bundled_mini_names_its_own_sets():
    rows = TrainedOn.of_rows("", {"sha1": ["166a4cd6afdb0c387d150f0cf623721c07b60b61"],
                                  "group": [None], "source": [None]}.__getitem__, [0])  # fmt: skip
    table = {"sha1": rows.hashes, "group": rows.groups}
    assert "mini has learned from (its own sets blood_cells)" in (
        seen_test_images("mini", table.__getitem__, [0]) or ""
    )
