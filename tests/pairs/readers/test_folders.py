"""Class folders: the label of every image is the folder a user put it in."""

import os

import pytest

from vesalius.errors import VesaliusError
from vesalius.pairs.readers import folders
from vesalius.pairs.readers.base import Found, Skipped
from vesalius.pairs.settings import ReaderOptions


@pytest.fixture
def fill(tmp_path):
    def fill(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        return tmp_path

    return fill


def read(source, **options):
    return list(folders.read(source, ReaderOptions(**options)))


def test_labels_come_from_folders_and_upper_folders_are_kept(fill):
    items = read(fill("top.jpg", "melanoma/a.jpg", "skin/arm/nevus/b.jpg"))
    assert [(item.key, item.label, item.attributes) for item in items] == [
        ("melanoma/a.jpg", "melanoma", {}),
        ("skin/arm/nevus/b.jpg", "nevus", {"folder": "skin/arm"}),
        ("top.jpg", None, {}),
    ]
    assert [item.load() for item in items] == [item.key.encode() for item in items]


def test_split_folders_give_the_split_and_never_the_label(fill):
    items = read(fill("Train/nv/a.jpg", "Train/b.jpg", "validation/skin/nv/c.jpg", "d.jpg"))
    assert [(item.split, item.label, item.attributes) for item in items] == [
        ("Train", None, {}),
        ("Train", "nv", {}),
        (None, None, {}),
        ("validation", "nv", {"folder": "skin"}),
    ]


def test_a_class_called_like_a_split_stays_a_class_beside_other_classes(fill):
    items = read(fill("test/a.jpg", "control/b.jpg"))
    assert {(item.split, item.label) for item in items} == {(None, "test"), (None, "control")}


def test_an_excluded_folder_does_not_hide_the_splits(fill):
    items = read(fill("train/nv/a.jpg", "masks/a.png", ".git/x"), exclude=("masks",))
    assert [(item.split, item.label) for item in items] == [("train", "nv")]


def test_what_is_plainly_no_image_is_named_and_the_rest_left_to_its_content(fill):
    items = read(fill("a/x.JPG", "a/scan", "a/odd.xyz", "a/notes.TXT", "labels.csv"))
    assert [item.key for item in items if isinstance(item, Found)] == [
        "a/odd.xyz",
        "a/scan",
        "a/x.JPG",
    ]
    assert [item for item in items if isinstance(item, Skipped)] == [
        Skipped("a/notes.TXT", "not an image file"),
        Skipped("labels.csv", "not an image file"),
    ]


def test_a_changed_file_has_another_stamp(fill):
    source = fill("a/x.jpg")
    before = read(source)[0].stamp
    (source / "a/x.jpg").write_bytes(b"longer than it was")
    assert read(source)[0].stamp != before


def test_splits_that_become_labels_change_the_stamp(fill):
    before = read(fill("train/a.jpg"))[0].stamp
    assert read(fill("extra/b.jpg"))[1].stamp != before


def test_links_to_nothing_and_pipes_are_skipped_not_waited_for(fill):
    source = fill("a/x.jpg")
    (source / "a/gone.jpg").symlink_to(source / "nowhere.jpg")
    (source / "a/round.jpg").symlink_to(source / "a/round.jpg")
    os.mkfifo(source / "a/pipe.jpg")
    reasons = {item.key: item.reason for item in read(source) if isinstance(item, Skipped)}
    assert reasons == {
        "a/gone.jpg": "a broken link",
        "a/round.jpg": "a broken link",
        "a/pipe.jpg": "not a regular file",
    }


def test_a_name_that_no_table_can_hold_is_skipped(fill):
    source = fill("a/x.jpg")
    try:
        with open(os.fsencode(source) + b"/a/\xff.jpg", "wb"):
            pass
    except OSError:
        pytest.skip("this disk takes only names in UTF-8")
    items = read(source)
    assert Skipped("a/\\udcff.jpg", "a file name that is not UTF-8") in items
    assert all(item.key.encode() for item in items)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(VesaliusError, match="typo"):
        read(tmp_path / "typo")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["kaggle/x/train/nv/a.jpg", "kaggle/x/test/mel/b.jpg"], {("train", "nv"), ("test", "mel")}),
        (["benign/train/a.jpg", "malignant/test/b.jpg"], {("train", "benign"), ("test", "malignant")}),
        (["train/nv/a.jpg", "docs/readme.txt"], {("train", "nv")}),
        (["x/train/nv/a.jpg", "x/other/nv/b.jpg"], {(None, "nv")}),
    ],
)  # fmt: skip
def test_a_split_is_known_at_any_depth(fill, names, said):
    items = [item for item in read(fill(*names)) if isinstance(item, Found)]
    assert {(item.split, item.label) for item in items} == said
