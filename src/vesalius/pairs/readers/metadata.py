"""Images with a table beside them: metadata.csv, .tsv, .jsonl or .parquet, one row an image."""

import json
import os
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath

from vesalius.core.labels import plain_name
from vesalius.errors import VesaliusError
from vesalius.pairs.readers.base import Found, Item, Note, Skipped, file_stamp
from vesalius.pairs.readers.columns import (
    MAYBE_GROUP,
    Columns,
    attribute_text,
    find_columns,
    likely_findings,
    listed,
    one_hot,
)
from vesalius.pairs.readers.files import IMAGE_SUFFIXES, excluded, listing, walk
from vesalius.pairs.readers.folders import NOT_IMAGES
from vesalius.pairs.readers.rows_of_images import image_of, rows_of_images
from vesalius.pairs.readers.tables import FORMATS, column_names, table_rows
from vesalius.pairs.settings import ReaderOptions
from vesalius.pairs.splits import normalise_split

_SAMPLE = 5000  # rows that decide what a column without a usual name holds
_NOT_TABLES = {"manifest.jsonl"}


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The images that a table names, in its order; key: the path below `source`.

    `source` is the table, or a folder with `metadata.*` or exactly one table in it or, where it has
    none itself, with such folders at any depth: there a folder called like a split gives the split.
    Paths are relative to the table's folder, or to `source` where only tables lie in that one; a name without its extension or its folder
    (`ISIC_0024306`) is looked for below it and must fit one file. Columns are recognised by
    `find_columns`; all others become attributes, and so do the columns of the group and the caption,
    by their own names. An image that no row names is not listed. A stamp covers the image and its row.

    Several rows of one image are one image with their labels united (a row a box, or a reader), and
    the attributes on which they agree; where their captions differ each is an image of its own, with
    `@LINE` behind its key. `options.rows_are` (boxes, images) decides instead.

    Raises VesaliusError where the table is ambiguous or cannot be read, or has no column of image files.
    """
    tables = find_tables(source)
    for table in tables:
        yield from _read_table(table, _image_folder(table, source, options), source, options)


def _image_folder(table: Path, source: Path, options: ReaderOptions) -> Path:
    """Where a table's paths begin: its own folder, or all of `source` where that has no image."""
    below = walk(table.parent, options.exclude)
    if not source.is_dir() or any(path.suffix.lower() not in NOT_IMAGES for path in below):
        return table.parent
    return source


def _below(folder: Path, source: Path) -> str:
    below = folder.relative_to(source if source.is_dir() else source.parent).as_posix()
    return "" if below == "." else f"{below}/"


def _read_table(table: Path, folder: Path, source: Path, options: ReaderOptions) -> Iterator[Item]:
    below = _below(folder, source)
    names = column_names(table)
    columns = find_columns(names, options)
    if columns.image is None:
        raise VesaliusError(
            f"{table} has no column known to hold image files: name the one that does by "
            f"--image-column, of those there are: {listed(names)}"
        )
    columns, notes = _with_unnamed_columns(table, names, columns)
    yield from (Note(f"in {below}{table.name}, {note}") for note in notes)
    split = next(filter(None, map(normalise_split, reversed(below.split("/")))), None)
    by_stem = cache(lambda: _by_stem(folder, options))
    seen: set[str] = set()
    for line, cells in rows_of_images(table, names, columns, options.rows_are):
        if isinstance(cells, Note):
            yield cells
            continue
        where = f"{below}{table.name}:{line}"
        if isinstance(cells, str):
            yield Skipped(where, cells)
            continue
        image = image_of(cells.row, columns)
        if image is None:
            yield Skipped(where, "no path of an image")
            continue
        key, reason = _find(folder, image, by_stem)
        if excluded(below + key, options.exclude):
            continue
        path = folder / key
        key = below + key
        while key in seen:
            key += f"@{line}"
        seen.add(key)
        if reason:
            yield Skipped(key, reason)
            continue
        said = cells.said
        said["split"] = said["split"] or split
        stamp = f"{file_stamp(path)}:{zlib.crc32(json.dumps(said).encode()):08x}"
        yield Found(key, path.read_bytes, stamp, **said)


def _with_unnamed_columns(
    table: Path, names: Sequence[str], columns: Columns
) -> tuple[Columns, list[str]]:
    """The columns with those that only the cells give away, and what a user should know of it."""
    rows = [row for _, row in islice(table_rows(table), _SAMPLE) if isinstance(row, dict)]
    notes = []
    free = [name for name in names if name not in (columns.image, columns.group, columns.split)]
    if columns.label is None and not columns.findings and (found := one_hot(free, rows)):
        columns = replace(columns, findings=found, one_of=True)
        notes.append(f"no column is called a label; one of {listed(found)} is 1 in each row: taken")
    elif columns.label is None and not columns.findings and (found := likely_findings(free, rows)):
        notes.append(
            f"no column is called a label, and {len(found)} hold 1 where something is there: if these are "
            f"findings, --label-column '{','.join(found)}' makes one label of them"
        )
    if columns.group is None:
        usual = set(map(plain_name, MAYBE_GROUP.split()))
        for name in (n for n in free if plain_name(n) in usual):
            cells = [text for row in rows if (text := attribute_text(row.get(name)))]
            if len(set(cells)) < len(cells):
                notes.append(
                    f"the column {name!r} has {len(set(cells)):,} values in {len(cells):,} rows: if it "
                    f"names the patient or lesion, give --group-column {name!r}, so that no split "
                    "cuts through one"
                )
    return columns, notes


def find_tables(source: Path) -> list[Path]:
    """The table of a folder, or those of the folders below it, or `source` itself if it is one.

    Raises VesaliusError where unclear.
    """
    known = ", ".join(FORMATS)
    if not source.is_dir():
        if source.suffix.lower() not in FORMATS or not source.is_file():
            raise VesaliusError(f"{source} is no table of images: give a file of {known}")
        return [source]
    tables = [
        Path(name)
        for name, is_folder in listing(source)
        if not is_folder and Path(name).suffix.lower() in FORMATS
    ]
    tables = [name for name in tables if name.stem.lower() == "metadata"] or tables
    if not tables:
        deeper = nested_tables(source)
        if deeper:
            return deeper
    if len(tables) != 1:
        there = "several tables: " + ", ".join(map(str, tables)) if tables else f"none of {known}"
        raise VesaliusError(f"{source} holds {there}; give the table itself as the source")
    return [_fuller(source / tables[0])]


def nested_tables(source: Path) -> list[Path]:
    """`metadata.*` files below a folder, at most one a folder; else the only table that lies below it."""
    found = [
        path
        for path in walk(source)
        if path.suffix.lower() in FORMATS and path.name not in _NOT_TABLES
    ]
    named = [path for path in found if path.stem.lower() == "metadata"]
    folders = {path.parent for path in named}
    if len(folders) < len(named):
        raise VesaliusError(
            f"{source} holds several metadata tables in one folder: give the one to read as the source"
        )
    return [*map(_fuller, named)] or (found if len(found) == 1 else [])


def _fuller(table: Path) -> Path:
    """The manifest, which says more, in place of the metadata.jsonl of a set of `vesalius synthesize`."""
    manifest = table.with_name("manifest.jsonl")
    ours = table.name == "metadata.jsonl" and table.with_name("about.json").is_file()
    return manifest if ours and manifest.is_file() else table


def _find(
    folder: Path, value: str, by_stem: Callable[[], dict[str, list[str]]]
) -> tuple[str, str | None]:
    """Path below `folder` of the image that a row names, and what is wrong with it."""
    base = os.path.join(os.path.abspath(folder), "")
    path = os.path.normpath(os.path.join(base, value.replace("\\", "/")))
    if not path.startswith(base):
        return value, "leaves the folder"
    key = path[len(base) :]
    if os.path.isfile(path):
        return key, None
    name = PurePosixPath(key)
    for drop in range(1, len(name.parts)):  # paths that begin above the table, as CheXpert's do
        lower = "/".join(name.parts[drop:])
        if os.path.isfile(os.path.join(base, lower)):
            return lower, None
    candidates = [c for stem in {name.name, name.stem} for c in by_stem().get(_low(stem), ())]
    near = [c for c in candidates if _ends(c, key) or _ends(_bare(c), key)]
    if not near:  # other case, or the suffix of another copy: tables of DICOM beside PNG files
        plain = _low(key) if name.suffix.lower() not in IMAGE_SUFFIXES else _bare(_low(key))
        near = [c for c in candidates if _ends(_bare(_low(c)), plain) or _ends(_low(c), plain)]
    if len(near) == 1:
        return near[0], None
    return key, "several files of this name" if near else "no such file"


def _low(name: str) -> str:
    """A name in lower case, its accents in one form: macOS writes them apart from their letters."""
    return unicodedata.normalize("NFC", name).lower()


def _ends(path: str, key: str) -> bool:
    return f"/{path}".endswith(f"/{key}")


def _bare(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _by_stem(folder: Path, options: ReaderOptions) -> dict[str, list[str]]:
    """Paths below `folder` of what may be an image, by name without extension, in lower case."""
    stems: dict[str, list[str]] = {}
    for path in walk(folder, options.exclude):
        if path.suffix.lower() not in NOT_IMAGES and path.is_file():
            stems.setdefault(_low(path.stem), []).append(path.relative_to(folder).as_posix())
    return stems
