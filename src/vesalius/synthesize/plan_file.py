"""A plan's file as it stands: its columns, unparsed, and where in it each value is."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from vesalius.errors import VesaliusError

SUFFIXES = (".csv", ".parquet")
_SEPARATORS = (",", ";", "\t")  # a spreadsheet takes what its country writes lists with
_BLOCK = 16 << 20  # bytes read at once; no line may be longer


@dataclass(frozen=True)
class Sheet:
    """Columns of equal length, and how to tell where row k of them stands."""

    name: str
    columns: dict[str, list[Any]]
    place: Callable[[int], str]  # 0 -> "line 2"

    def error(self, index: int, column: str, what: str) -> VesaliusError:
        """An error that says where: `plan.csv, line 7, seed: ...`."""
        return VesaliusError(f"{self.name}, {self.place(index)}, {column}: {what}")


def suffix_of(path: Path) -> str:
    """`.csv` or `.parquet`. Raises VesaliusError for any other."""
    if (suffix := path.suffix.lower()) not in SUFFIXES:
        raise VesaliusError(f"{path}: a plan is a .csv or a .parquet file")
    return suffix


def read_sheet(path: Path, required: Sequence[str]) -> Sheet:
    """Read a plan's columns: text from a CSV, and whatever they hold from Parquet.

    Lines that say nothing in the `required` columns are left out.
    Raises VesaliusError where the file is missing, broken, or lacks a column.
    """
    suffix = suffix_of(path)
    if not path.is_file():
        raise VesaliusError(f"no plan at {path}: make one with `vesalius plan`")
    try:
        table, place = _read_csv(path, required) if suffix == ".csv" else _read_parquet(path)
    except OSError as error:
        raise VesaliusError(f"{path} cannot be read: {error.strerror or error}") from error
    names = [name.strip() for name in table.column_names]
    if missing := [name for name in required if name not in names]:
        raise VesaliusError(
            f"{path} is not a plan: it lacks {', '.join(missing)}; it has {', '.join(names)}"
        )
    for name in names:
        if name and names.count(name) > 1:
            raise VesaliusError(f"{path} has two columns {name!r}: rename or delete one")
    # a column without a name is what a stray comma makes
    columns = {n: table[k].to_pylist() for k, n in enumerate(names) if n}
    kept = [
        index
        for index, cells in enumerate(zip(*(columns[name] for name in required), strict=True))
        if any(cell not in (None, "") for cell in cells)
    ]
    if len(kept) < table.num_rows:
        columns = {name: [values[k] for k in kept] for name, values in columns.items()}
        return Sheet(str(path), columns, lambda index: place(kept[index]))
    return Sheet(str(path), columns, place)


def _read_parquet(path: Path) -> tuple[pa.Table, Callable[[int], str]]:
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise VesaliusError(f"{path} is not a Parquet file: {error}") from error
    return table, lambda index: f"entry {index + 1}"


def _read_csv(path: Path, required: Sequence[str]) -> tuple[pa.Table, Callable[[int], str]]:
    separator, names = _header(path, required)
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise VesaliusError(
            _what_is_wrong(path, separator, len(names)) or f"{path}: {error}"
        ) from error

    def place(index: int) -> str:
        numbered = (number for number, _ in _lines(path, separator))
        next(numbered)  # the header
        return f"line {next(number for k, number in enumerate(numbered) if k == index)}"

    return table, place


def _header(path: Path, required: Sequence[str]) -> tuple[str, list[str]]:
    """What stands between the columns, and their names, blanks and all."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(_BLOCK)
    except UnicodeDecodeError as error:
        raise VesaliusError(f"{path} is not text in UTF-8: save it as CSV UTF-8") from error
    if not first.strip():
        raise VesaliusError(f"{path} is empty: a plan begins with the names of its columns")
    named = {mark: next(csv.reader([first], delimiter=mark)) for mark in _SEPARATORS}
    for mark, names in named.items():
        if any(name.strip() in required for name in names) and len(names) > 1:
            return mark, names
    return ",", named[","]


def _lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The records that pyarrow counts, each with the number of the line that it begins in."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader, begins = csv.reader(file, delimiter=separator), 1
        for cells in reader:
            if cells:
                yield begins, cells
            begins = reader.line_num + 1


def _what_is_wrong(path: Path, separator: str, width: int) -> str | None:
    """The first line that is not text, or has another number of columns than the header."""
    try:
        for number, cells in _lines(path, separator):
            if len(cells) != width:
                return (
                    f"{path}, line {number} has {len(cells)} columns, and its header {width}: put "
                    f'text that holds a {separator!r} in "quotes"'
                )
    except UnicodeDecodeError:
        return f"{path} is not text in UTF-8: save it as CSV UTF-8"
    except csv.Error as error:
        return f"{path} is not a CSV file: {error}"
    return None
