"""A plan's file as it stands: its columns, unparsed, and where in it each value is."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vesalius.core.parquet import open_parquet, read_columns, reading_parquet
from vesalius.core.paths import did_you_mean_path
from vesalius.errors import VesaliusError

SUFFIXES = (".csv", ".parquet")
_SEPARATORS = (",", ";", "\t")  # a spreadsheet takes what its country writes lists with


@dataclass(frozen=True)
class Sheet:
    """Columns of equal length, and the place of row k in the file."""

    name: str
    columns: Mapping[str, Sequence[Any]]
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
        hint = did_you_mean_path(path) or ": make one with `vesalius plan`"
        raise VesaliusError(f"no plan at {path}{hint}")
    try:
        names, columns, places = (
            _read_csv(path, required) if suffix == ".csv" else _read_parquet(path)
        )
    except OSError as error:
        raise VesaliusError(f"{path} cannot be read: {error.strerror or error}") from error
    names = [name.strip() for name in names]
    if missing := [name for name in required if name not in names]:
        raise VesaliusError(
            f"{path} is not a plan: it lacks {', '.join(missing)}; it has {', '.join(names)}"
        )
    for name in names:
        if name and names.count(name) > 1:
            raise VesaliusError(f"{path} has two columns {name!r}: rename or delete one")
    # a column without a name is what a stray comma makes
    named = {name: values for name, values in zip(names, columns, strict=True) if name}
    kept = [
        index
        for index, cells in enumerate(zip(*(named[name] for name in required), strict=True))
        if any(cell not in (None, "") for cell in cells)
    ]
    if len(kept) < len(places):
        named = {name: [values[k] for k in kept] for name, values in named.items()}
        places = [places[k] for k in kept]
    kind = "line" if suffix == ".csv" else "entry"
    return Sheet(str(path), named, lambda index: f"{kind} {places[index]}")


_Columns = tuple[list[str], Sequence[Sequence[Any]], Sequence[int]]  # names, columns, line numbers


def _read_parquet(path: Path) -> _Columns:
    file = open_parquet(path)
    for column in file.schema_arrow:
        if pa.types.is_nested(column.type):
            raise VesaliusError(f"{path}: {column.name} is {column.type}: give one value a row")
    table = read_columns(file, path, file.schema_arrow.names)
    with reading_parquet(path):  # text that is no UTF-8, dates out of range
        columns = [table[k].to_pylist() for k in range(table.num_columns)]
    return table.column_names, columns, range(1, table.num_rows + 1)


def _read_csv(path: Path, required: Sequence[str]) -> _Columns:
    records: list[list[str]] = []
    lines: list[int] = []  # that the records begin in
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = _separator(first := file.readline(), required)
            if not first.strip():
                raise VesaliusError(f"{path} is empty: a plan begins with the names of its columns")
            file.seek(0)
            reader = csv.reader(file, delimiter=separator)
            names = next(reader)
            begins = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(names):
                    raise VesaliusError(
                        f"{path}, line {begins} has {len(cells)} columns, and its header "
                        f'{len(names)}: put text that holds a {separator!r} in "quotes"'
                    )
                if cells:
                    records.append(cells)
                    lines.append(begins)
                begins = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise VesaliusError(f"{path} is not text in UTF-8: save it as CSV UTF-8") from error
    except csv.Error as error:
        raise VesaliusError(f"{path} is not a CSV file: {error}") from error
    return names, list(zip(*records, strict=True)) or [()] * len(names), lines


def _separator(header: str, required: Sequence[str]) -> str:
    for mark in _SEPARATORS:
        names = next(csv.reader([header], delimiter=mark), [])
        if any(name.strip() in required for name in names) and len(names) > 1:
            return mark
    return ","
