"""Caption side files: each image gets its own text, whole, or is named as having none."""

import os

import pytest

from vesalius.pairs.readers import textfiles
from vesalius.pairs.readers.base import Found, Skipped
from vesalius.pairs.settings import ReaderOptions


def read(source, **options):
    return list(textfiles.read(source, ReaderOptions(**options)))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "nv").mkdir()
    return tmp_path / "nv"


def test_the_text_beside_an_image_is_its_caption_and_the_folder_its_label(folder):
    (folder / "a.b.jpg").write_bytes(b"image")
    (folder / "a.b.txt").write_text("  a naevus,\n\tthe left arm \n")
    (item,) = read(folder.parent)
    assert isinstance(item, Found)
    assert (item.key, item.caption, item.label) == ("nv/a.b.jpg", "a naevus, the left arm", "nv")
    assert item.load() == b"image"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_captions_in_any_usual_encoding(folder, encoding):
    (folder / "a.jpg").touch()
    (folder / "a.TXT").write_bytes("5 µm naïve".encode(encoding))
    assert read(folder)[0].caption == "5 µm naïve"


def test_nothing_is_dropped_in_silence(folder):
    for name in ("none.jpg", "empty.jpg", "good.jpg", "table.csv"):
        (folder / name).touch()
    (folder / "empty.txt").write_text(" \n")
    (folder / "good.txt").write_text("good")
    (folder / "alone.txt").write_text("no image")
    (folder / "table.txt").write_text("a table is no image")
    items = read(folder)
    assert {item.key: item.reason for item in items if isinstance(item, Skipped)} == {
        "none.jpg": "no caption file",
        "empty.jpg": "empty caption file",
        "alone.txt": "a caption file without an image",
        "table.csv": "not an image file",
        "table.txt": "a caption file without an image",
    }
    assert [item.key for item in items if isinstance(item, Found)] == ["good.jpg"]


def test_a_changed_caption_changes_the_stamp(folder):
    (folder / "a.jpg").touch()
    (folder / "a.txt").write_text("one")
    before = read(folder)[0].stamp
    (folder / "a.txt").write_text("three")
    assert read(folder)[0].stamp != before


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_a_caption_that_is_no_file_is_not_waited_for(folder, make):
    (folder / "a.jpg").touch()
    make(folder / "a.txt")
    assert Skipped("a.jpg", "no caption file") in [
        Skipped(item.key, item.reason) for item in read(folder) if isinstance(item, Skipped)
    ]
