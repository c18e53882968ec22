"""Paths as people write them."""

import re
from pathlib import Path

from vesalius.core.words import nearest
from vesalius.errors import VesaliusError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib leaves one slash of s3://bucket
_NO_URL = "only files and folders are read and written: mount the store, or copy from and to it"


def is_url(path: Path | str) -> bool:
    """Whether `path` is in fact `s3://bucket/set` or the like, of which a folder `s3:` would be made."""
    return bool(_URL.match(str(path)))


def no_url(path: Path | str) -> Path:
    """The path. Raises VesaliusError where `is_url`."""
    if is_url(path):
        raise VesaliusError(f"{path}: {_NO_URL}")
    return Path(path)


def expanded(path: Path | str) -> Path:
    """The path with `~` replaced. Raises VesaliusError where that names no user of this machine."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise VesaliusError(f"{path}: there is no such user on this machine") from error


def did_you_mean_path(path: Path | str) -> str:
    """`: did you mean PATH?` where a folder on the way has a name like the one that is missing.

    Of a URL, what to do instead.
    """
    if is_url(path):
        return f": {_NO_URL}"
    path, rest = Path(path), Path()
    while not path.parent.is_dir() and path.parent != path:
        path, rest = path.parent, Path(path.name) / rest
    try:
        names = [each.name for each in path.parent.iterdir() if not each.name.startswith(".")]
    except OSError:
        return ""
    near = nearest(path.name, names, 0.7)
    if near is None or near == path.name:
        return ""
    whole = path.parent / near / rest
    return f": did you mean {whole if whole.exists() else path.parent / near}?"
