"""Images with a table beside them: metadata.csv, .tsv, .jsonl or .parquet, one row an image."""

import csv
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.base import Found, Item, ReaderOptions, Skipped, file_stamp
from vesalius.pairs.readers.columns import attribute_text, describe, find_columns, listed
from vesalius.pairs.readers.files import excluded, listing, text_encoding, walk
from vesalius.pairs.readers.folders import NOT_IMAGES

# The line (of a Parquet file the row, from 1) and its cells by column, or why it has none.
Row = tuple[int, dict[str, Any] | str]

_FIELD = 10_000_000  # characters; a report may be long
_DELIMITERS = "\t;|,"  # the comma last: it also stands inside of names
_PANDAS_INDEX = re.compile(r"|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)
_BAD_PARQUET = (pa.ArrowException, OSError, ValueError)  # the last: names that are not UTF-8


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The images that a table names, in its order; key: the path below the table's folder.

    `source` is the table, or a folder with `metadata.*` or exactly one table in it. Paths are
    relative to the table's folder; a name without its extension or its folder (`ISIC_0024306`) is
    looked for below it and must fit one file. Columns are recognised by `find_columns`; all others
    become attributes, and so do the columns of the group and the caption, by their own names. An
    image that no row names is not listed. A second row of an image has `@LINE` behind its key.
    A stamp covers the image and its row.

    Raises VesaliusError where the table cannot be told or read, or has no column of image files.
    """
    table = find_table(source)
    names, rows = _FORMATS[table.suffix.lower()](table)
    names = [name for name in names if not _PANDAS_INDEX.fullmatch(name)]
    columns = find_columns(names, options)
    if columns.image is None:
        raise VesaliusError(
            f"{table} has no column known to hold image files: name the one that does by "
            f"--image-column, of those there are: {listed(names)}"
        )
    by_stem = cache(lambda: _by_stem(table.parent, options))
    seen: set[str] = set()
    for line, cells in rows:
        if isinstance(cells, str):
            yield Skipped(f"{table.name}:{line}", cells)
            continue
        cell = cells.get(columns.image)
        image = None if isinstance(cell, bytes | dict | list) else attribute_text(cell)
        if image is None:
            yield Skipped(f"{table.name}:{line}", "no path of an image")
            continue
        key, reason = _find(table.parent, image, by_stem)
        if excluded(key, options.exclude):
            continue
        path = table.parent / key
        while key in seen:
            key += f"@{line}"
        seen.add(key)
        if reason:
            yield Skipped(key, reason)
            continue
        said = describe({name: cells.get(name) for name in names}, columns)
        stamp = f"{file_stamp(path)}:{zlib.crc32(json.dumps(said).encode()):08x}"
        yield Found(key, path.read_bytes, stamp, **said)


def find_table(source: Path) -> Path:
    """The table of a folder, or `source` itself if it is one. Raises VesaliusError where unclear."""
    known = ", ".join(_FORMATS)
    if not source.is_dir():
        if source.suffix.lower() not in _FORMATS or not source.is_file():
            raise VesaliusError(f"{source} is no table of images: give a file of {known}")
        return source
    tables = [
        Path(name)
        for name, is_folder in listing(source)
        if not is_folder and Path(name).suffix.lower() in _FORMATS
    ]
    tables = [name for name in tables if name.stem.lower() == "metadata"] or tables
    if len(tables) != 1:
        there = "several tables: " + ", ".join(map(str, tables)) if tables else f"none of {known}"
        raise VesaliusError(f"{source} holds {there}; give the table itself as the source")
    return source / tables[0]


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
    near = [
        candidate
        for stem in {name.name, name.stem}
        for candidate in by_stem().get(stem, ())
        if f"/{candidate}".endswith(f"/{key}")
        or f"/{PurePosixPath(candidate).with_suffix('')}".endswith(f"/{key}")
    ]
    if len(near) == 1:
        return near[0], None
    return key, "several files of this name" if near else "no such file"


def _by_stem(folder: Path, options: ReaderOptions) -> dict[str, list[str]]:
    """Paths below `folder` of what may be an image, by name without extension."""
    stems: dict[str, list[str]] = {}
    for path in walk(folder, options.exclude):
        if path.suffix.lower() not in NOT_IMAGES and path.is_file():
            stems.setdefault(path.stem, []).append(path.relative_to(folder).as_posix())
    return stems


def _csv(table: Path) -> tuple[list[str], Iterator[Row]]:
    lines = _csv_lines(table)
    _, header = next(lines, (0, []))
    names = [" ".join(name.split()) for name in header]

    def rows() -> Iterator[Row]:
        for line, fields in lines:
            if len(fields) == len(names):
                yield line, dict(zip(names, fields, strict=True))
            else:
                hint = "; a quote left open?" if "\n" in fields[-1] else ""
                yield line, f"{len(fields)} fields where the header has {len(names)}{hint}"

    return names, rows()


def _csv_lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line and fields of each row that says anything."""
    with table.open(encoding=_encoding(table), errors="replace", newline="") as stream:
        head = next((line for line in stream.read(65536).splitlines() if line.strip()), "")
        stream.seek(0)
        counts = {mark: len(next(csv.reader([head], delimiter=mark), ())) for mark in _DELIMITERS}
        # strict: a quote left open would swallow the rows behind it without a word
        mark = max(counts, key=lambda mark: counts[mark])
        reader = csv.reader(stream, delimiter=mark, strict=True)
        start, usual = 1, csv.field_size_limit(_FIELD)
        try:
            for fields in reader:
                if any(field.strip() for field in fields):
                    yield start, fields
                start = reader.line_num + 1
        except csv.Error as error:
            raise VesaliusError(
                f"{table} cannot be read from line {start} on: is a quote left open? ({error})"
            ) from error
        finally:
            csv.field_size_limit(usual)


def _jsonl(table: Path) -> tuple[list[str], Iterator[Row]]:
    rows = (cells for _, cells in _jsonl_rows(table) if isinstance(cells, dict))
    return list(dict.fromkeys(name for cells in rows for name in cells)), _jsonl_rows(table)


def _jsonl_rows(table: Path) -> Iterator[Row]:
    with table.open(encoding=_encoding(table), errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, _json_object(line)


def _json_object(line: str) -> dict[str, Any] | str:
    try:
        cells = json.loads(line, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return cells if isinstance(cells, dict) else "not a JSON object"


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        raise ValueError("a name stands twice")
    return cells


def _parquet(table: Path) -> tuple[list[str], Iterator[Row]]:
    try:
        return pq.read_schema(table).names, _parquet_rows(table)
    except _BAD_PARQUET as error:
        raise _unreadable(table, error) from error


def _parquet_rows(table: Path) -> Iterator[Row]:
    row = 0
    try:
        with pq.ParquetFile(table) as file:
            for batch in file.iter_batches(batch_size=1024):
                for cells in batch.to_pylist():
                    row += 1
                    yield row, cells
    except _BAD_PARQUET as error:
        raise _unreadable(table, error) from error


def _unreadable(table: Path, error: Exception) -> VesaliusError:
    reason = " ".join(str(error).split())
    return VesaliusError(f"{table} cannot be read: write it again as Parquet ({reason})")


def _encoding(table: Path) -> str:
    try:
        with table.open("rb") as stream:
            return text_encoding(stream)
    except OSError as error:
        raise VesaliusError(f"{table} cannot be read ({error.strerror})") from error


_FORMATS: dict[str, Callable[[Path], tuple[list[str], Iterator[Row]]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
