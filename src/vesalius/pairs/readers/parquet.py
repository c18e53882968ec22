"""Parquet with the images' bytes inside: one file, or a folder of shards of one table.

`Shard` and `rows` also serve `datasets_folder`: what they take is Arrow record batches.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.core.parquet import rows_at_once
from vesalius.errors import VesaliusError
from vesalius.pairs.readers.base import Found, Item, Skipped, file_stamp
from vesalius.pairs.readers.columns import Columns, describe, find_columns, listed
from vesalius.pairs.readers.files import excluded, listing
from vesalius.pairs.settings import ReaderOptions

MOST_BYTES = 200_000_000  # of one image; several are held at a time
BATCH_ROWS = 64  # rows decoded at a time
BUFFER_BYTES = 1 << 20  # of each column; without it whole row groups are read into memory
# A table that vesalius wrote: its `group` is what no split may cut, whatever `patient_id` says.
_PAIRS = {"image", "caption", "group", "source", "sha1"}
_SPLIT_OF_FILE = re.compile(r"(train|validation|valid|val|dev|test)(?=[-_.])", re.IGNORECASE)


@dataclass(frozen=True)
class Shard:
    """One file of a table, and how its rows are understood."""

    path: Path
    name: str  # keys of its rows begin with it
    columns: Columns
    wanted: list[str]  # columns that are read
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by column
    split: str | None = None  # of rows that do not say theirs
    exclude: Sequence[str] = ()


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The rows of a Parquet file, or of the shards in a folder or its `data/`, by file name.

    An image is a struct of `bytes` and `path`, or plain binary; a path is followed inside the
    file's folder. Shards of a folder that are called `train-...` or `test-...` give the split of
    rows that name none. Columns of `datasets` type ClassLabel give the class's name. Keys are
    `FILE:ROW`.

    Raises VesaliusError for a file that is no Parquet file or is damaged, holds no images, or has
    its images in another column than the first one.
    """
    shards = [_shard(path, source, options) for path in _files(source, options.exclude)]
    if not shards:
        raise VesaliusError(f"{source} holds no Parquet file: give a folder of .parquet files")
    for shard in shards:
        if shard.columns.image != shards[0].columns.image:
            raise VesaliusError(
                f"{shard.name} has its images in {shard.columns.image!r}, {shards[0].name} in "
                f"{shards[0].columns.image!r}: these are not one table, give them one by one"
            )
    for shard in shards:
        first = 0
        for batch in _batches(shard):
            yield from rows(batch, shard, first)
            first += batch.num_rows


def make_shard(
    path: Path,
    name: str,
    schema: pa.Schema,
    options: ReaderOptions,
    features: Mapping[str, Any],
    split: str | None = None,
) -> Shard:
    """How a file with this `schema` is read; `features` are those of `datasets`, empty if none.

    Raises VesaliusError where no column holds images.
    """
    images = [column.name for column in schema if _is_image(column.type)]
    if options.group_column is None and _PAIRS.issubset(schema.names):
        options = replace(options, group_column="group")
    image = find_columns(schema.names, options).image
    if image not in images:
        if options.image_column or not images:
            what = f"no images in {image!r}" if options.image_column else "no images"
            there = listed([f"{column.name} ({column.type})" for column in schema])
            raise VesaliusError(
                f"{path} holds {what}: a column with the bytes of image files is needed, there are "
                f"{there}"
            )
        image = find_columns(images, ReaderOptions()).image or images[0]
    wanted = [
        column.name for column in schema if column.name == image or not _holds_bytes(column.type)
    ]
    # among these only: a `label` that is a mask is no label
    columns = find_columns(wanted, replace(options, image_column=image))
    names = _class_names(features)
    return Shard(path, name, columns, wanted, names, split, options.exclude)


def rows(batch: pa.RecordBatch, shard: Shard, first: int) -> Iterator[Item]:
    """The items of a batch whose first row is row `first` of its file."""
    stamp = file_stamp(shard.path)
    images = batch.column(str(shard.columns.image))
    others = [
        (name, batch.column(name), shard.class_names.get(name, ()))
        for name in shard.wanted
        if name != shard.columns.image
    ]
    for index in range(batch.num_rows):
        key = f"{shard.name}:{first + index}"
        if excluded(key, shard.exclude):
            continue
        try:
            row = {name: _named(column[index].as_py(), names) for name, column, names in others}
            image = images[index].as_py()
        except (ValueError, OverflowError, pa.ArrowException) as error:  # broken text, dates
            yield Skipped(key, f"a cell cannot be read: {_line(error)}", stamp)
            continue
        said = describe(row, shard.columns)
        said["split"] = said["split"] or shard.split
        image = image if isinstance(image, dict) else {"bytes": image}
        data = image.get("bytes")
        if data is not None and len(data) > MOST_BYTES:
            yield Skipped(key, f"larger than {MOST_BYTES >> 20} MiB", stamp)
        elif data is not None:
            yield Found(key, holding(data), stamp, **said)
        elif isinstance(path := image.get("path"), str) and path:
            beside = _beside(shard.path.parent, path)
            if isinstance(beside, str):
                yield Skipped(key, beside, stamp)
            else:
                yield Found(key, beside.read_bytes, f"{stamp}+{file_stamp(beside)}", **said)
        else:
            yield Skipped(key, "no image", stamp)


def holding(data: bytes) -> Callable[[], bytes]:
    """A `Found.load` for bytes that are in memory already."""
    return lambda: data


def _files(source: Path, exclude: Sequence[str]) -> list[Path]:
    if source.is_file():
        return [source]
    folders = [source, source / "data"] if (source / "data").is_dir() else [source]
    return [
        folder / name
        for folder in folders
        for name, is_folder in listing(folder)
        if not is_folder and name.lower().endswith(".parquet") and not excluded(name, exclude)
    ]


def _shard(path: Path, source: Path, options: ReaderOptions) -> Shard:
    try:
        schema = pq.read_schema(path)
        _ = schema.names  # damaged ones are no UTF-8
    except (pa.ArrowException, OSError, ValueError) as error:
        raise VesaliusError(
            f"{path} is not a Parquet file, or only a part of one ({_line(error)}): fetch it again"
        ) from error
    of_file = _SPLIT_OF_FILE.match(path.name) if path != source else None
    name = path.name if path == source else path.relative_to(source).as_posix()
    features = _features_of(schema)
    return make_shard(path, name, schema, options, features, of_file and of_file[1].lower())


def _batches(shard: Shard) -> Iterator[pa.RecordBatch]:
    group = 0
    try:
        with pq.ParquetFile(shard.path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                size = rows_at_once(file, group, shard.wanted, BATCH_ROWS)
                yield from file.iter_batches(size, row_groups=[group], columns=shard.wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise VesaliusError(
            f"{shard.path} is damaged in row group {group} ({_line(error)}): fetch it again"
        ) from error


def _features_of(schema: pa.Schema) -> Mapping[str, Any]:
    """What the `datasets` library noted about the columns; empty where that cannot be read."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}


def _class_names(features: Any) -> dict[str, list[str]]:
    named = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]  # a list of class labels
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list) and feature.get("_type") == "ClassLabel":
            named[column] = [str(name) for name in names]
    return named


def _named(value: Any, names: Sequence[str]) -> Any:
    """Class numbers as names; -1 is how `datasets` says that there is none."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if not names or not isinstance(value, int) or value >= len(names):
        return value
    return names[value] if value >= 0 else None


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether bytes stand anywhere in it: masks and second images are no text."""
    inside = (kind.field(index).type for index in range(kind.num_fields))
    return (
        _is_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or any(_holds_bytes(part) for part in inside)
    )


def _beside(folder: Path, path: str) -> Path | str:
    """The file that `path` names in `folder`, or why there is none."""
    inside = os.path.normpath(path.replace("\\", "/"))
    if os.path.isabs(inside) or inside.split(os.sep)[0] == "..":
        return "leaves the folder"
    try:
        return folder / inside if (folder / inside).is_file() else "no such file"
    except (OSError, ValueError):  # a name too long, a null byte
        return "no such file"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
