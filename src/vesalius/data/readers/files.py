"""Walking folders: the same order everywhere, no loop, no hidden file."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path


def walk(folder: Path, exclude: Sequence[str] = ()) -> Iterator[Path]:
    """Files below `folder` in the order of their names, folder by folder.

    Links to folders are followed once: one that leads to a folder already on the way is a loop.
    Hidden files and folders are left out, and what a pattern of `exclude` matches by its path
    below `folder` or by its name.
    """
    yield from _walk(folder, folder, exclude, ())


def _walk(
    root: Path, folder: Path, exclude: Sequence[str], above: tuple[tuple[int, int], ...]
) -> Iterator[Path]:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    with os.scandir(folder) as entries:
        names = sorted(
            (entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")
        )
    for name, is_folder in names:
        path = folder / name
        if excluded(path.relative_to(root).as_posix(), exclude):
            continue
        if is_folder:
            yield from _walk(root, path, exclude, (*above, identity))
        else:
            yield path


def excluded(key: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the whole key or its last part."""
    name = key.rsplit("/", 1)[-1]
    return any(fnmatch(key, pattern) or fnmatch(name, pattern) for pattern in patterns)
