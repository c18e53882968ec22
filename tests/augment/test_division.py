"""Who takes part and on which side: a patient on two sides would make the answer worthless."""

import io
from collections import defaultdict
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.augment.conftest import write_pairs
from tests.utility.conftest import labels_of, write_table

from vesalius.augment.division import divide
from vesalius.augment.settings import AugmentSettings
from vesalius.pairs.table import read_pairs

ASKED = AugmentSettings()


@pytest.fixture
def table(tmp_path):
    def make(count=90, splits=None, **more):
        return write_pairs(tmp_path / "table.parquet", count, splits, **more)

    return make


def test_it_is_drawn_by_group_and_class_and_the_same_each_time(table):
    patients = [f"patient {k // 3}" for k in range(90)]
    path = table(groups=patients)
    division = divide(path, ASKED)
    sides = defaultdict(set)
    for patient, split in zip(patients, division.splits, strict=True):
        sides[patient].add(split)
    assert all(len(of) == 1 for of in sides.values())
    counts = division.counts()
    assert all(counts[split][label] for split in counts for label in ("cyst", "nodule", "scar"))
    assert 0.15 * 90 <= counts["val"]["all"] <= 0.25 * 90
    assert divide(path, ASKED).splits == division.splits
    assert divide(path, replace(ASKED, seed=1)).splits != division.splits


def test_the_tables_own_sides_are_kept(table):
    splits = ["train"] * 60 + ["val"] * 15 + ["test"] * 15
    division = divide(table(splits=splits), ASKED)
    assert division.splits == splits
    asked = divide(division.path, replace(ASKED, split="val=0.3,test=0.3"))
    assert asked.splits != splits and "val=0.3,test=0.3" in asked.how


def test_of_its_own_test_nothing_is_moved_where_only_the_validation_is_missing(table):
    splits = ["train"] * 70 + ["test"] * 20
    division = divide(table(splits=splits), ASKED)
    assert division.splits[70:] == ["test"] * 20
    assert {*division.splits[:70]} == {"train", "val"}


def test_what_takes_no_part_is_not_written(table, tmp_path):
    sites = ["north" if k % 2 else "south" for k in range(90)]
    path = table(splits=["train"] * 80 + ["unused"] * 10, site=sites)
    division = divide(path, replace(ASKED, where={"site": "north"}))
    division.write(tmp_path / "out.parquet")
    written, source = read_pairs(tmp_path / "out.parquet"), read_pairs(path)
    assert len(written) == 40
    assert set(written.column("site")) == {"north"}
    assert written.column("split") == [s for s in division.splits if s != "unused"]
    by_key = {key: row for row, key in enumerate(source.column("sha1"))}
    for row, key in enumerate(written.column("sha1")):
        assert written.encoded(row) == source.encoded(by_key[key])


def test_another_column_may_be_the_label(table, tmp_path):
    sites = ["north" if k % 3 else "" for k in range(90)]
    sites[0] = "south"
    division = divide(table(site=sites), replace(ASKED, label="site"))
    assert set(division.labels) == {"north", "south", ""}
    assert all(
        split == "unused" for split, label in zip(division.splits, sites, strict=True) if not label
    )
    assert "29 images have no site" in division.notes[0]
    division.write(tmp_path / "out.parquet")
    assert set(read_pairs(tmp_path / "out.parquet").column("label")) <= {"north", "south"}


def test_classes_differ_by_their_captions(table):
    path = table()
    told = divide(path, ASKED)
    assert set(told.captions) == {"picture of a cyst", "picture of a nodule", "picture of a scar"}
    rows = pq.read_table(path)
    for captions, first in (
        (["a picture"] * 90, "a picture, {}"),
        ([None] * 90, "{}"),
    ):
        at = rows.column_names.index("caption")
        pq.write_table(rows.set_column(at, "caption", [captions]), path)
        division = divide(path, ASKED)
        assert division.captions == [first.format(label) for label in division.labels]
        assert any("caption" in note for note in division.notes)


def test_a_word_of_its_own_for_each_label(table):
    division = divide(table(), ASKED).with_tokens()
    assert set(division.captions) == {"<cyst>", "<nodule>", "<scar>"}


def test_files_are_to_be_like_the_real_ones(table, tmp_path):
    division = divide(table(), ASKED)
    assert division.format() is None
    images = []
    for row in range(90):
        stream = io.BytesIO()
        Image.open(io.BytesIO(division.pairs().encoded(row))).save(stream, "JPEG")
        images.append(stream.getvalue())
    path = write_table(tmp_path / "jpeg.parquet", labels_of(90), ["train"] * 90, images=images)
    assert divide(path, ASKED).format() == "jpeg"


def test_few_test_images_are_told(table):
    assert "only large differences" in divide(table(), ASKED).notes[-1]
