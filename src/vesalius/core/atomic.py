"""Outputs appear under their final name complete or not at all."""

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vesalius.core.locks import Busy, lock, lock_file
from vesalius.core.paths import no_url
from vesalius.errors import VesaliusError

MARKER = "work.lock"  # in a folder of work in progress
_AGAIN = (0.05, 0.2, 1.0, 0.0)  # seconds to wait after each failed attempt to rename
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FOR_A_MOMENT = (errno.ESTALE, errno.EBUSY, errno.EINTR, errno.EAGAIN)
_ALIVE, _OLD = ".lock", ".old"  # what a process holds as it writes, and what it is to replace
_LEFT = re.compile(
    r"\.(.+)\.[0-9a-f]{8}(\.(tmp|old|lock)\b)"
)  # by an `atomic_path` that was killed


@contextmanager
def atomic_path(final: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling of `final`; move it into place on success, remove it otherwise.

    Works for a file or a folder, whichever the caller creates. An existing file is replaced, and so
    is an existing folder: the old one is moved aside first, deleted only once the new one stands,
    and put back if the move fails. Parent folders made for a failed output are removed again. What
    killed processes left of the same output is removed first, so a lock file beside it says that
    this one is alive.
    """
    # absolute: `.` and `..` have no name to build a sibling's from
    final = Path(os.path.abspath(final))
    made = _make_parents(final.parent)
    stem = f".{final.name}.{uuid.uuid4().hex[:8]}"
    temporary = final.with_name(f"{stem}.tmp{final.suffix}")
    done = False
    try:
        # waits for those who look whether it is alive
        with lock_file(final.with_name(f"{stem}{_ALIVE}"), wait=True):
            _sweep(final)
            try:
                yield temporary
                _replace(temporary, final)
                done = True
            finally:
                remove(temporary)
    finally:
        if not done:
            _remove_empty(made)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the output `folder`, made where it is missing, against other runs.

    What killed runs left in it is cleared away first. One that was made and stayed empty goes again.
    """
    if no_url(folder).exists() and not folder.is_dir():
        raise VesaliusError(f"{folder} is a file, not a folder: choose another --out")
    made = _make_parents(folder)
    try:
        with clear_write_errors(folder, 0), lock_file(folder / MARKER):
            _settle_below(folder)
            yield
    finally:
        _remove_empty(made)


def _settle_below(folder: Path) -> None:
    """End what a kill has cut short: an old output without its successor stands again."""
    matches = [(path, _LEFT.match(path.name)) for path in folder.rglob(".*")]
    for final in sorted({path.with_name(match[1]) for path, match in matches if match}):
        _sweep(final)


def _sweep(final: Path) -> None:
    """End what killed processes left of `final`; those that are alive hold their lock file.

    An old output without its successor stands again. Windows has no locks: there all stays.
    """
    left: dict[str, list[str]] = {}
    try:
        found = [] if os.name == "nt" else sorted(os.listdir(final.parent))
    except OSError:  # it is no folder, or may not be read
        return
    for name in found:
        if (match := _LEFT.match(name)) and match[1] == final.name:
            left.setdefault(name[: match.start(2)], []).append(name)
    for stem, names in left.items():
        with suppress(Busy, OSError), lock_file(final.with_name(f"{stem}{_ALIVE}")):
            for name in names:
                if name == f"{stem}{_OLD}" and not final.exists():
                    move(final.with_name(name), final)
                elif not name.startswith(f"{stem}{_ALIVE}"):
                    remove(final.with_name(name))


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """Yield a folder for work in progress, which outlives an interruption and nothing else.

    It is removed when the work is done or has failed, with the parents made for it. After Ctrl-C or
    a kill it stays, for the next run to go on with.
    """
    made = _make_parents(path.parent)
    marker = path / MARKER
    if path.exists() and not marker.exists():
        raise VesaliusError(f"{path} is in the way, and not of an earlier run: move it elsewhere")
    try:
        path.mkdir(exist_ok=True)
        with marker.open("ab") as file, lock(file.fileno(), marker):
            yield path
    except (KeyboardInterrupt, Busy):
        raise
    except BaseException:
        remove(path)
        _remove_empty(made)
        raise
    remove(path)


def _replace(temporary: Path, final: Path) -> None:
    if not final.is_dir():
        move(temporary, final)
        return
    stem = temporary.name.removesuffix(f".tmp{final.suffix}")
    aside = final.with_name(f"{stem}{_OLD}")
    move(final, aside)
    try:
        move(temporary, final)
    except BaseException:
        move(aside, final)
        raise
    remove(aside)


def move(source: Path, final: Path) -> None:
    """Rename; a file takes the place of one that is there.

    A network disk that was busy for a moment, or lost its answer, is asked again.
    """
    for wait in _AGAIN:
        try:
            (source.rename if source.is_dir() else source.replace)(final)
            return
        except OSError as error:
            if error.errno == errno.ENOENT and wait != _AGAIN[0] and final.exists():
                return  # it was done the time before
            if error.errno not in _FOR_A_MOMENT or wait == _AGAIN[-1]:
                raise
            time.sleep(wait)


def _make_parents(parent: Path) -> list[Path]:
    """Create `parent`; return the folders that were missing, deepest first."""
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(missing)
        raise VesaliusError(f"cannot write into {parent}: {error.strerror}") from error
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # never made, or somebody else has put something in it
            return


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def writable_new_folder(
    path: Path | str, *, overwrite: bool = False, only_with: str | None = None
) -> Path:
    """Check that `path` can become a new folder and return it; nothing is created yet.

    `only_with` names a file that an earlier output of the same command holds: a folder without it
    is somebody's own, and is never replaced, `overwrite` or not.

    Raises VesaliusError when it exists (unless `overwrite`) or its parent cannot be written.
    """
    path = Path(path)
    _sweep(path.absolute())
    if path.exists() and not overwrite:
        raise VesaliusError(f"{path} exists already: choose another --out, or pass --overwrite")
    if path.exists() and not path.is_dir():
        raise VesaliusError(f"{path} is a file, not a folder: choose another --out")
    if path.is_dir() and only_with and any(path.iterdir()) and not (path / only_with).is_file():
        raise VesaliusError(
            f"{path} is not an earlier output (it has no {only_with}), so --overwrite leaves it "
            "alone: choose another --out"
        )
    _check_parent(path)
    return path


def writable_new_file(path: Path | str, *, overwrite: bool = False) -> Path:
    """Check that `path` can become a new file and return it; nothing is created yet.

    Raises VesaliusError when it exists (unless `overwrite`) or its folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise VesaliusError(f"{path} exists already: choose another --out, or pass --overwrite")
    if path.is_dir():
        raise VesaliusError(f"{path} is a folder, not a file: choose another --out")
    _check_parent(path)
    return path


def _check_parent(path: Path) -> None:
    parent = no_url(path).absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise VesaliusError(f"cannot write into {parent}: choose another --out")


@contextmanager
def clear_write_errors(out: Path | str, needed_bytes: int) -> Iterator[None]:
    """Turn a write that fails into a VesaliusError that says what to do.

    `needed_bytes` is an upper bound of what the whole output takes, for the message.
    """
    try:
        yield
    except VesaliusError:
        raise
    except Exception as error:
        if _is_full(error):
            need = f"free {needed_bytes / 1e6:.0f} MB" if needed_bytes else "free some of it"
            raise VesaliusError(f"the disk is full: {need} or choose another --out") from error
        if not isinstance(error, OSError):
            raise
        path, verb = error.filename or out, "use" if error.filename else "write"
        raise VesaliusError(f"cannot {verb} {path}: {error.strerror or error}") from error


def _is_full(error: Exception) -> bool:
    """Whether there was no room: also where safetensors or shutil say so, in words alone."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    if type(error).__name__ != "SafetensorError" and not isinstance(error, shutil.Error):
        return False
    return any(os.strerror(code) in str(error) for code in _FULL)
