"""Walking folders: the same order everywhere, no loop, no hidden file; and telling encodings."""

import codecs
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import BinaryIO

from vesalius.errors import VesaliusError

IMAGE_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".dcm",
    ".dicom",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".gif",
}
PARTICIPANTS = "participants.tsv"  # of BIDS: a table of patients, not of images
_HIDDEN = (".", "__MACOSX")  # the second is what macOS adds to its zip files
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def walk(folder: Path, exclude: Sequence[str] = ()) -> Iterator[Path]:
    """Files below `folder` in the order of their names, folder by folder.

    Links to folders are followed, but one that leads to where the walk has been is left out. So are hidden files and folders, and what a pattern of `exclude` matches by its path
    below `folder` or by its name. Links to nothing are given: whoever opens a file must expect
    anything. Raises VesaliusError for a folder that cannot be listed.
    """
    yield from _walk(folder, "", exclude, (), set())


def _walk(
    folder: Path,
    prefix: str,
    exclude: Sequence[str],
    above: tuple[tuple[int, int], ...],
    seen: set[tuple[int, int]],
) -> Iterator[Path]:
    names = listing(folder)
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above or (identity in seen and folder.is_symlink()):
        return
    seen.add(identity)
    for name, is_folder in names:
        if excluded(prefix + name, exclude):
            continue
        if is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/", exclude, (*above, identity), seen)
        else:
            yield folder / name


def listing(folder: Path) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, hidden ones left out, and whether each is a folder.

    Raises VesaliusError where there is no such folder or it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry.name, _is_folder(entry))
                for entry in entries
                if not entry.name.startswith(_HIDDEN)
            )
    except OSError as error:
        raise VesaliusError(
            f"the folder {folder} cannot be listed ({error.strerror}): check its name and rights"
        ) from error


def excluded(key: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the whole key or its last part."""
    name = key.rsplit("/", 1)[-1]
    return any(fnmatch(key, pattern) or fnmatch(name, pattern) for pattern in patterns)


def text_encoding(stream: BinaryIO) -> str:
    """The encoding of a text, from the whole of it, a block at a time.

    A byte order mark decides, else it is UTF-8 where that fits, else what Windows writes (cp1252),
    else Latin-1, which fits anything. Only text after a mark can still be undecodable.
    """
    start = stream.read(3)
    for mark, encoding in _BOMS.items():
        if start.startswith(mark):
            return encoding
    for encoding in ("utf-8", "cp1252"):
        stream.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for block in iter(partial(stream.read, 1 << 20), b""):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
