"""Class folders: an image's label is the folder that holds it."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vesalius.pairs.readers.base import Found, Item, Note, Skipped, file_stamp
from vesalius.pairs.readers.files import listing, walk
from vesalius.pairs.settings import ReaderOptions
from vesalius.pairs.splits import folders_are_splits, take_split

# Files that are plainly something else. Of all others the content decides, when it is loaded.
_TEXTS = {".txt", ".md", ".html", ".pdf", ".log", ".py"}
_TABLES = {".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".parquet"}
_UNREAD = (".xlsx", ".xls", ".ods", ".json", ".xml", ".mat", ".pkl", ".sqlite")
NOT_IMAGES = frozenset(_TEXTS | _TABLES | {".zip", ".db", ".ini"})


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The files below `source`, in the order of their names; key: the path below `source`.

    `skin/melanoma/a.jpg` has the label `melanoma` and the attribute `folder`, `skin`; a file that
    lies in `source` itself has no label. Where every image that lies in a folder lies below one called
    like a split (`train`, `Validation`, ...), at whatever depth, these give `split` and no label.
    Raises VesaliusError for a folder that cannot be listed.
    """
    with_splits = folders_are_splits(
        path.relative_to(source).parts[:-1]
        for path in walk(source, options.exclude)
        if path.suffix.lower() not in NOT_IMAGES
    )
    if source.is_dir() and (
        beside := [n for n, _ in listing(source) if n.lower().endswith(_UNREAD)]
    ):
        yield Note(
            f"{', '.join(beside[:3])} may say what the images are and is not read: write it as "
            "metadata.csv with a column for the file names"
        )
    for path in walk(source, options.exclude):
        name = path.relative_to(source).as_posix()
        key = name.encode(errors="backslashreplace").decode()  # what is not UTF-8, spelt out
        if reason := "a file name that is not UTF-8" if key != name else _why_not(path):
            yield Skipped(key, reason)
            continue
        folders = PurePosixPath(key).parts[:-1]
        split, folders = take_split(folders) if with_splits else (None, folders)
        above, label = _label(folders)
        yield Found(
            key,
            load=path.read_bytes,
            # a folder that is added can turn all splits into labels
            stamp=file_stamp(path) + (":split" if split else ""),
            label=label,
            split=split,
            attributes={"folder": above} if above else {},
        )


def _label(folders: tuple[str, ...]) -> tuple[str, str | None]:
    """The folders above the label, joined, and the label."""
    return ("/".join(folders[:-1]), folders[-1]) if folders else ("", None)


def _why_not(path: Path) -> str | None:
    if path.suffix.lower() in NOT_IMAGES:
        return "not an image file"
    if not os.path.isfile(path):  # a pipe would be waited for without end
        return "a broken link" if path.is_symlink() else "not a regular file"
    return None
