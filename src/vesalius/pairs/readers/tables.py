"""The rows of somebody's table: .csv, .tsv, .jsonl or .parquet, in any usual encoding and with any delimiter."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.files import text_encoding

# The line (of a Parquet file the row, from 1) and its cells by column, or why it has none.
Row = tuple[int, dict[str, Any] | str]

_FIELD = 10_000_000  # characters; a report may be long
_NUMBER = re.compile(r"[+-]?\d+(,\d+)?")
_DELIMITERS = "\t;|,"  # the comma last: it also stands inside of names
_PANDAS_INDEX = re.compile(r"|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)
_BAD_PARQUET = (pa.ArrowException, OSError, ValueError)  # the last: names that are not UTF-8


def column_names(table: Path) -> list[str]:
    """The names of a table's columns, without pandas' index. Raises VesaliusError."""
    names = FORMATS[table.suffix.lower()](table)[0]
    return [name for name in names if not _PANDAS_INDEX.fullmatch(name)]


def table_rows(table: Path) -> Iterator[Row]:
    """The rows of a table, read as they are asked for. Raises VesaliusError."""
    return FORMATS[table.suffix.lower()](table)[1]


def _csv(table: Path) -> tuple[list[str], Iterator[Row]]:
    names, rows = _csv_as_written(table)
    if not (numeric := _decimal_commas(table)):
        return names, rows

    def with_points() -> Iterator[Row]:
        for line, cells in rows:
            if isinstance(cells, dict):
                commas = {name: cells[name].replace(",", ".") for name in numeric}
                cells = cells | commas
            yield line, cells

    return names, with_points()


def _decimal_commas(table: Path) -> set[str]:
    """The columns of a table with another delimiter whose cells are all numbers, some as in 3,5."""
    names, rows = _csv_as_written(table)
    if _delimiter(table) == ",":  # there "1,234" is one thousand and more
        return set()
    numeric, with_comma = set(names), set[str]()
    for _, cells in rows:
        if isinstance(cells, str):
            continue
        for name in [name for name in numeric if cells[name].strip()]:
            if not (number := _NUMBER.fullmatch(cells[name].strip())):
                numeric.discard(name)
            elif number[1]:
                with_comma.add(name)
        if not numeric:
            break
    return numeric & with_comma


def _csv_as_written(table: Path) -> tuple[list[str], Iterator[Row]]:
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
    mark = _delimiter(table)
    with table.open(encoding=_encoding(table), errors="replace", newline="") as stream:
        # strict: a quote left open would swallow the rows behind it without a word
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


def _delimiter(table: Path) -> str:
    """The mark that parts the first line that says anything into most cells."""
    with table.open(encoding=_encoding(table), errors="replace", newline="") as stream:
        head = next((line for line in stream.read(65536).splitlines() if line.strip()), "")
    counts = {mark: len(next(csv.reader([head], delimiter=mark), ())) for mark in _DELIMITERS}
    return max(counts, key=lambda mark: counts[mark])


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


FORMATS: dict[str, Callable[[Path], tuple[list[str], Iterator[Row]]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
