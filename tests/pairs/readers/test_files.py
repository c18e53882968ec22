"""Walking: the same files in the same order on every machine, and no folder walked for ever."""

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.files import excluded, text_encoding, walk


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def walked(folder, exclude=()):
    return [path.relative_to(folder).as_posix() for path in walk(folder, exclude)]


def test_order_is_that_of_the_names_whatever_the_disk_says(tmp_path):
    fill(tmp_path, "b.jpg", "a/2.jpg", "a/10.jpg", "c/x/1.jpg", "B.jpg")
    assert walked(tmp_path) == ["B.jpg", "a/10.jpg", "a/2.jpg", "b.jpg", "c/x/1.jpg"]


def test_hidden_files_and_what_a_mac_packs_are_left_out(tmp_path):
    fill(tmp_path, "a.jpg", ".DS_Store", ".cache/a.jpg", "__MACOSX/._a.jpg", "x/.a.jpg")
    assert walked(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*_mask.png", ["a/1.png", "b/1.png"]),
        ("a/*", ["b/1.png", "b/1_mask.png"]),
        ("b", ["a/1.png", "a/1_mask.png"]),
    ],
)
def test_exclude_takes_names_paths_and_whole_folders(tmp_path, pattern, left):
    fill(tmp_path, "a/1.png", "a/1_mask.png", "b/1.png", "b/1_mask.png")
    assert walked(tmp_path, (pattern,)) == left
    assert excluded("a/1_mask.png", ["*_mask.png"]) and not excluded("a/1.png", ["1"])


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    fill(tmp_path, "real/a.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "real" / "self").symlink_to(tmp_path / "real" / "self")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert walked(tmp_path) == ["gone", "linked/a.jpg", "linked/self", "real/a.jpg", "real/self"]


def test_a_folder_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(VesaliusError, match="cannot be listed"):
        list(walk(tmp_path / "typo"))
    fill(tmp_path, "file")
    with pytest.raises(VesaliusError, match="cannot be listed"):
        list(walk(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_is_closed_is_told_and_not_passed_over(tmp_path):
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(VesaliusError, match="cannot be listed"):
            walked(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o700)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_encodings_of_other_peoples_tables(encoding):
    text = "µm, naïve" + ("\x81" if encoding == "latin-1" else "")
    data = text.encode(encoding)
    assert data.decode(text_encoding(io.BytesIO(data))) == text


@given(st.text())
def test_utf8_is_never_taken_for_something_else(text):
    data = text.lstrip("\ufeff").encode()
    assert data.decode(text_encoding(io.BytesIO(data))) == text.lstrip("\ufeff")


@given(st.binary())
def test_any_bytes_have_an_encoding(data):
    data.decode(text_encoding(io.BytesIO(data)), errors="replace")
