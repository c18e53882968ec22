"""The key of a study: what each image and each trial is. Two Parquet files that only their owner may read.

Who serves the study never opens them.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.core.atomic import atomic_path
from vesalius.core.parquet import open_parquet, read_columns
from vesalius.errors import VesaliusError

REAL, SYNTHETIC, RECONSTRUCTED, FAKE = "real", "synthetic", "reconstructed", "fake"
Kind = Literal["scored", "repeat", "fake", "same", "training"]
Phase = Literal["training", "unaware", "reading"]


@dataclass(frozen=True)
class KeyItem:
    """One image. `view` is JSON of the attributes that it was matched by."""

    item: str
    arm: str  # real, synthetic or synthetic:SET, reconstructed, fake
    set: str  # the name of the synthetic set
    source: str  # where the image came from: a source and its row, or the file of a set
    sha1: str  # of the file it was made from
    group: str
    label: str
    prompt: str
    view: str
    matched: str  # the item that it was matched with
    mirrored: bool = False


@dataclass(frozen=True)
class KeyTrial:
    """One trial of one reader. `truth` is the right answer, "" where there is none."""

    trial: int
    reader: str
    position: int
    task: str
    phase: Phase
    kind: Kind
    repeat_of: int | None
    items: str  # joined by commas: left, right
    truth: str


Row = TypeVar("Row", KeyItem, KeyTrial)
_TYPES = {"trial": pa.int64(), "position": pa.int64(), "repeat_of": pa.int64()}


def write_key(path: Path, rows: Sequence[Row], kind: type[Row]) -> None:
    """Write one of the two files, mode 0600 from its first byte on."""
    columns = {name: [getattr(row, name) for row in rows] for name in kind.__dataclass_fields__}
    types = _TYPES | {"mirrored": pa.bool_()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    with atomic_path(path) as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        pq.write_table(pa.table(columns, schema), temporary)


def read_items(path: Path) -> list[KeyItem]:
    """Every image. Raises VesaliusError where the file is missing or damaged."""
    return _read(path, KeyItem)


def read_trials(path: Path) -> list[KeyTrial]:
    """Every trial, by reader and position. Raises VesaliusError as `read_items` does."""
    return _read(path, KeyTrial)


def _read(path: Path, kind: type[Row]) -> list[Row]:
    if not path.is_file():
        raise VesaliusError(f"{path} is missing: without it nobody knows what the images are")
    file = open_parquet(path)
    names = list(kind.__dataclass_fields__)
    if lacking := [name for name in names if name not in file.schema_arrow.names]:
        raise VesaliusError(f"{path} is no key of a study: it lacks {', '.join(lacking)}")
    rows: list[dict[str, Any]] = read_columns(file, path, names).to_pylist()
    return [kind(**row) for row in rows]


def as_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For hashes and JSON."""
    return [asdict(row) for row in rows]
