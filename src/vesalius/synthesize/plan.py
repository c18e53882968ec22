"""A plan of what to generate: one row an image, in a table that a person can read and edit.

Parquet or CSV, by the file's suffix. Columns: `row` (a number that no other row has), `prompt`,
`label`, `seed`; then, where any row needs them, `negative`, `steps`, `guidance`, `sampler`,
`width`, `height` (pixels) and `model_hash`, empty for the model's own; then free attributes. Seeds
drawn by `make_plan` have ten digits, because spreadsheets round longer numbers. No torch here.
"""

import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.core.atomic import atomic_path, clear_write_errors, writable_new_file
from vesalius.core.parquet import MOST_BYTES
from vesalius.errors import VesaliusError
from vesalius.sample.checks import LARGEST_SEED, LARGEST_SIDE, LONGEST_PROMPT, check_numbers
from vesalius.sample.prompt import parse_prompt
from vesalius.sample.samplers import NAMES
from vesalius.synthesize.plan_file import Sheet, read_sheet, suffix_of


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One image to make; None, or an empty text, is the model's own (for `model_hash`: any)."""

    row: int
    prompt: str  # may be composed: `A AND B:0.5`
    label: str
    seed: int
    negative: str = ""
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    width: int | None = None  # pixels
    height: int | None = None
    model_hash: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


COLUMNS = tuple(one.name for one in fields(PlanRow) if one.name != "attributes")
REQUIRED = ("row", "prompt", "seed")
ALWAYS = (*REQUIRED, "label")  # written even where every row leaves them empty


def read_plan(path: Path | str) -> list[PlanRow]:
    """The rows of a plan, in the file's order; columns beyond `COLUMNS` are attributes.

    What spreadsheets do to a CSV is taken as it is meant: a leading BOM, semicolons or tabs between
    the columns, 12.0 for 12 and 7,5 for 7.5, empty lines.
    Raises VesaliusError that names the file, line and column of what is wrong. No two rows may
    have the same `row`, or the same prompt and seed.
    """
    return list(map(PlanRow, *_checked(read_sheet(Path(path), REQUIRED))))


def write_plan(rows: Sequence[PlanRow], path: Path | str, overwrite: bool = False) -> None:
    """Write a plan as .csv (UTF-8) or .parquet; columns that no row needs are left out.

    Raises VesaliusError for rows that `read_plan` would not take, or a path that cannot be written.
    """
    path = writable_new_file(path, overwrite=overwrite)
    suffix = suffix_of(path)
    table = _table(rows)
    if table.nbytes > MOST_BYTES:
        raise VesaliusError(
            f"{len(rows):,} rows with prompts this long are too many for one plan: write several, each "
            "with another --seed"
        )
    columns = {name: table[name].to_pylist() for name in table.column_names}
    _checked(Sheet("the plan", columns, lambda index: f"row {columns['row'][index]}"))
    with clear_write_errors(path, 2 * table.nbytes), atomic_path(path) as temporary:
        if suffix == ".parquet":
            pq.write_table(table, temporary)
            return
        # a spreadsheet takes UTF-8 for UTF-8 only with a BOM, which plain ASCII can do without
        texts = (text for column in columns.values() for text in column if isinstance(text, str))
        ascii_only = all(map(str.isascii, (*columns, *texts)))
        encoding = "utf-8" if ascii_only else "utf-8-sig"
        with temporary.open("w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))


def plan_digest(rows: Iterable[PlanRow]) -> str:
    """SHA-256 (64 hex digits) of what is planned: not of the file's format, nor of its order."""
    total = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.row):
        values = [getattr(row, name) or None for name in COLUMNS]
        values[_GUIDANCE] = None if row.guidance is None else float(row.guidance)
        values.append(sorted((name, text) for name, text in row.attributes.items() if text))
        total.update(json.dumps(values).encode() + b"\n")
    return total.hexdigest()


_GUIDANCE = COLUMNS.index("guidance")


def _table(rows: Sequence[PlanRow]) -> pa.Table:
    kinds = {"row": pa.int64(), "seed": pa.int64(), "guidance": pa.float64()}
    kinds |= dict.fromkeys(("steps", "width", "height"), pa.int64())
    columns = {}
    for name in COLUMNS:
        values = [getattr(row, name) for row in rows]
        if name in ALWAYS or any(value not in (None, "") for value in values):
            columns[name] = pa.array(values, kinds.get(name, pa.string()))
    for name in dict.fromkeys(name for row in rows for name in row.attributes):
        if name in COLUMNS:
            raise VesaliusError(f"an attribute cannot be called {name!r}: a plan has that column")
        columns[name] = pa.array([row.attributes.get(name, "") for row in rows], pa.string())
    return pa.table(columns)


def _checked(sheet: Sheet) -> list[list[Any]]:
    """The values of each field of `PlanRow`, row by row."""
    count = len(sheet.columns["row"])
    if not count:
        raise VesaliusError(f"{sheet.name} has no rows: nothing is planned")
    columns = []
    for name in COLUMNS:
        parse = _PARSERS[name]
        columns.append(
            _parsed(sheet, name, parse) if name in sheet.columns else [parse(None)] * count
        )
    by_name = dict(zip(COLUMNS, columns, strict=True))
    for index, (width, height) in enumerate(zip(by_name["width"], by_name["height"], strict=True)):
        if (width is None) != (height is None):
            missing = "width" if width is None else "height"
            raise sheet.error(index, missing, "is empty: give both width and height, or neither")
    _all_differ(sheet, "row", by_name["row"], "each row needs a number of its own")
    images = list(zip(by_name["prompt"], by_name["seed"], strict=True))
    _all_differ(sheet, "seed", images, "the same prompt and seed give the same image")
    return [*columns, _attributes(sheet, count)]


def _parsed(sheet: Sheet, name: str, parse: Callable[[Any], Any]) -> list[Any]:
    """A column's values, each distinct one parsed once."""
    values = sheet.columns[name]
    known: dict[Any, Any] = {}
    for value in values:
        if value not in known:
            try:
                known[value] = parse(value)
            except (ValueError, VesaliusError) as error:
                raise sheet.error(values.index(value), name, str(error)) from error
    return [known[value] for value in values]


def _all_differ(sheet: Sheet, column: str, values: list[Any], why: str) -> None:
    if len(set(values)) == len(values):
        return
    first: dict[Any, int] = {}
    for index, value in enumerate(values):
        if (earlier := first.setdefault(value, index)) != index:
            raise sheet.error(index, column, f"is that of {sheet.place(earlier)}: {why}")


def _attributes(sheet: Sheet, count: int) -> list[dict[str, str]]:
    """The further columns as one mapping a row, shared by rows that say the same."""
    names = [name for name in sheet.columns if name not in COLUMNS]
    if not names:
        nothing: dict[str, str] = {}
        return [nothing] * count
    cells = list(zip(*(_parsed(sheet, name, _text) for name in names), strict=True))
    known = {
        values: {name: text for name, text in zip(names, values, strict=True) if text}
        for values in set(cells)
    }
    return [known[values] for values in cells]


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is not valid text: give it in UTF-8") from error
    return text


def _prompt(value: Any) -> str:
    text = _text(value)
    if not text:
        raise ValueError("is empty: say what to draw")
    if len(text) > LONGEST_PROMPT:
        raise ValueError(f"has {len(text):,} characters, and {LONGEST_PROMPT:,} are the most")
    if "AND" in text:
        parse_prompt(text)  # an error now, not when the image is due
    return text


def _negative(value: Any) -> str:
    return _prompt(value) if _text(value) else ""


def _number(text: str) -> float:
    """A number as spreadsheets write it, in the English or the continental way."""
    try:
        number = float(text.replace(",", ".")) if text.count(",") == 1 else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a number")
    return number


_GROUPED = re.compile(r"\d{1,3}[.,]\d{3}")  # 1,000 in one country and 1.000 in another


def _unrounded(text: str) -> int:
    """12 of 12.0. Raises ValueError for 1.5, for 1E+15, whose digits are lost, and for 1,000."""
    number = _number(text)
    if _GROUPED.fullmatch(text):
        raise ValueError(
            f"{text} may be in thousands or not: write all its digits, without {text[-4]!r}"
        )
    if "e" in text.lower():
        raise ValueError(
            f"{text} is rounded, as spreadsheets do with long numbers: give all its digits"
        )
    if not number.is_integer():
        raise ValueError(f"{text} is not a whole number")
    return int(number)


def _whole(most: int, least: int = 0) -> Callable[[Any], int | None]:
    """Parser of whole numbers from `least` to `most`; nothing is None."""

    def parse(value: Any) -> int | None:
        text = _text(value)
        if not text:
            return None
        number = int(text) if text.isdecimal() else _unrounded(text)
        if not least <= number <= most:
            shown = "2^63 - 1" if most == LARGEST_SEED else f"{most:,}"
            raise ValueError(f"{number} is out of range: it must be between {least} and {shown}")
        return number

    return parse


_long = _whole(LARGEST_SEED)


def _needed(value: Any) -> int:
    number = _long(value)
    if number is None:
        raise ValueError("is empty: give a whole number")
    return number


def _guidance(value: Any) -> float | None:
    text = _text(value)
    if not text:
        return None
    number = _number(text)
    check_numbers(guidance=number)
    return number


def _sampler(value: Any) -> str | None:
    text = _text(value)
    if text and text not in NAMES:
        raise ValueError(f"no sampler is called {text!r}: choose one of {', '.join(NAMES)}")
    return text or None


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "row": _needed,
    "prompt": _prompt,
    "label": _text,
    "seed": _needed,
    "negative": _negative,
    "steps": _whole(1000, 1),
    "guidance": _guidance,
    "sampler": _sampler,
    "width": _whole(LARGEST_SIDE, 1),
    "height": _whole(LARGEST_SIDE, 1),
    "model_hash": _text,
}
