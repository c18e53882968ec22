"""Outputs appear whole or not at all, and nothing else is ever lost."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from vesalius.core.atomic import atomic_path, clear_write_errors, writable_new_folder
from vesalius.errors import VesaliusError


def test_a_file_and_a_folder_appear_complete(tmp_path):
    with atomic_path(tmp_path / "new" / "file.txt") as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".txt"
        assert not (tmp_path / "new" / "file.txt").exists()
    with atomic_path(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "a").touch()
    assert (tmp_path / "new" / "file.txt").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "new"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_nothing_not_even_parents(tmp_path, error):
    with pytest.raises(error), atomic_path(tmp_path / "a" / "b" / "c") as temporary:
        temporary.mkdir()
        (temporary / "half").touch()
        raise error
    assert not list(tmp_path.iterdir())


def test_an_old_folder_is_replaced_and_survives_a_failed_move(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    real = Path.rename

    def fails(self, target):
        if ".tmp" in self.name:
            raise OSError(errno.EIO, "broken disk")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(OSError, match="broken disk"), atomic_path(folder) as temporary:
            temporary.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert (folder / "old").exists()
    with atomic_path(folder) as temporary:
        temporary.mkdir()
    assert not list(folder.iterdir())


def test_relative_names_work(tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    with atomic_path("../sibling/./x") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "sibling" / "x").read_text() == "x"


def test_a_folder_that_cannot_be_made_is_told_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert writable_new_folder(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(VesaliusError, match="exists already"):
        writable_new_folder(tmp_path / "full")
    with pytest.raises(VesaliusError, match="is a file"):
        writable_new_folder(tmp_path / "file", overwrite=True)
    with pytest.raises(VesaliusError, match="cannot write into"):
        writable_new_folder(tmp_path / "file" / "x")
    with pytest.raises(VesaliusError, match="not an earlier output"):
        writable_new_folder(tmp_path / "full", overwrite=True, only_with="manifest.jsonl")
    writable_new_folder(tmp_path / "full", overwrite=True, only_with="x")


def test_write_errors_are_clear_write_errors():
    with (
        pytest.raises(VesaliusError, match="disk is full: free 5 MB"),
        clear_write_errors("out", 5 << 20),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    full = f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"
    for error in (SafetensorError(full), shutil.Error([("a", "b", f"[Errno 28] {full}")])):
        with (
            pytest.raises(VesaliusError, match="disk is full: free some of it"),
            clear_write_errors("out", 0),
        ):
            raise error
    with pytest.raises(SafetensorError, match="header"), clear_write_errors("out", 0):
        raise SafetensorError("invalid header")
    with (
        pytest.raises(VesaliusError, match="cannot write out: Read-only"),
        clear_write_errors("out", 1),
    ):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
