"""Write a pairs table as one Parquet file, an image part at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.pairs.compose import Draft
from vesalius.pairs.scan import open_part

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Rows read together when one of them is asked for: enough to be quick in a row, and at random too.
ROW_GROUP = 64
_FIRST = ("caption", "label", "group", "split", "source", "row", "sha1", "symmetry")
_LAST = ("fold", "key", "width", "height", "bits")


def write_table(draft: Draft, path: Path) -> None:
    """Write `draft` with its images to `path`. Memory is bounded by one part, which leaves no trace."""
    names = [*_FIRST, *(n for n in _LAST if n in draft.table.column_names), *draft.attributes()]
    light = draft.table.select(names)
    schema = pa.schema([pa.field("image", IMAGE_TYPE), *light.schema])
    schema = schema.with_metadata({"huggingface": _features(schema)})
    rest = schema.empty_table()
    with pq.ParquetWriter(path, schema, **_settings(names)) as writer:
        for start, length, images in _images(draft):
            table = pa.table([images, *light.slice(start, length).columns], schema=schema)
            rest = pa.concat_tables([rest, table])
            full = rest.num_rows - rest.num_rows % ROW_GROUP
            for first in range(0, full, ROW_GROUP):
                # in one chunk: where parts begin would show in the file's pages
                writer.write_table(rest.slice(first, ROW_GROUP).combine_chunks())
            rest = rest.slice(full)
        if rest.num_rows:
            writer.write_table(rest.combine_chunks())


def rewrite_table(
    source: Path | str,
    path: Path,
    columns: Mapping[str, Sequence[str | None]],
    keep: Sequence[bool],
) -> None:
    """Write the pairs table `source` to `path` with other text columns, and only some of its rows.

    Both are given for every row of `source`. Memory is bounded by one of its row groups.
    """
    file = pq.ParquetFile(source, memory_map=True)
    names = [name for name in file.schema_arrow.names if name != "image"]
    mask, start = pa.array(keep, pa.bool_()), 0
    changed = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    schema = file.schema_arrow
    for name in columns:
        schema = schema.set(schema.get_field_index(name), pa.field(name, pa.string()))
    with pq.ParquetWriter(path, schema, **_settings(names)) as writer:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            for name, values in changed.items():
                at = table.column_names.index(name)
                table = table.set_column(at, name, values.slice(start, len(table)))
            kept = table.filter(mask.slice(start, len(table))).cast(schema)
            start += len(table)
            if len(kept):
                writer.write_table(kept.combine_chunks(), row_group_size=ROW_GROUP)


def _settings(names: Sequence[str]) -> dict[str, Any]:
    """How a table is written: images are compressed already, and have no useful minimum."""
    return {
        "compression": dict.fromkeys(["image.path", *names], "zstd") | {"image.bytes": "none"},
        "use_dictionary": ["image.path", *names],
        "write_statistics": list(names),
    }


def _images(draft: Draft) -> Iterator[tuple[int, int, pa.Array]]:
    """First row, number of rows and images of each part that any row lies in."""
    for part, start, length in draft.by_part():
        rows = draft.table.slice(start, length)
        image = open_part(part)["image"].take(rows["offset"])
        encoded = image.combine_chunks().cast(pa.binary())
        path = rows["key"].combine_chunks()
        yield start, length, pa.StructArray.from_arrays([encoded, path], IMAGE_TYPE.names)


def _features(schema: pa.Schema) -> str:
    """What the `datasets` library needs to know, so that it gives `image` as pictures."""
    features = {
        field.name: {"_type": "Value", "dtype": "string" if field.type == pa.string() else "int64"}
        for field in schema
    }
    features["image"] = {"_type": "Image"}
    return json.dumps({"info": {"features": features}})
