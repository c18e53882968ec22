"""The table of image-text pairs: one Parquet file, one row an image.

Columns: `image` struct<bytes, path> (encoded bytes), `caption`, `label`, `group`, `split`
(train or val), `source` (the set), `row` (its row there), `sha1` (of the image bytes), `symmetry`,
then the source's own attributes as strings.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vesalius.data.captions import Dictionary, Row, SetDictionary, caption
from vesalius.data.splits import hold_out
from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
REQUIRED = ("image", "caption", "label", "split", "source", "sha1")


@dataclass(frozen=True)
class Pairs:
    """An opened pairs table; images stay encoded and memory-mapped until asked for."""

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> list[str]:
        """One text column as a list."""
        return self.table[name].to_pylist()

    def image(self, index: int, size: int) -> np.ndarray:
        """Row `index` as (size, size, 3) uint8 RGB: short side to `size`, centre crop."""
        data = self.table["image"][index]["bytes"].as_buffer()
        return square(Image.open(io.BytesIO(data)), size)

    def rows(self, split: str) -> list[int]:
        """Indices of one split."""
        return [i for i, name in enumerate(self.column("split")) if name == split]


def square(image: Image.Image, size: int) -> np.ndarray:
    """RGB uint8 (size, size, 3): short side resized to `size` (bicubic), then the centre cut out."""
    image = image.convert("RGB")
    scale = size / min(image.size)
    if scale != 1:
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def read_pairs(path: Path | str) -> Pairs:
    """Open a pairs Parquet file. Raises VesaliusError when it is missing or not such a table."""
    path = Path(path)
    if not path.is_file():
        raise VesaliusError(f"no pairs table at {path}: make one with `vesalius pairs`")
    table = _read_parquet(path)
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise VesaliusError(f"{path} is not a pairs table: it lacks {', '.join(missing)}")
    return Pairs(table)


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise VesaliusError(f"{path} is not a Parquet file: {error}") from error


def build_pairs(
    folder: Path | str,
    dictionary: Dictionary,
    out: Path | str,
    val_fraction: float = 0.1,
    seed: int = 0,
) -> dict[str, dict[str, int]]:
    """Turn a folder of Parquet files, one a set, into one pairs table.

    Only the sets that the dictionary names are taken. At least `val_fraction` of each set goes to
    the split `val`, by the dictionary's group column where there is one, else by image content.

    Returns: per set, how many rows went to `train` and `val` and how many were dropped.
    """
    folder = Path(folder)
    sources = {name: folder / f"{name}.parquet" for name in dictionary}
    missing = [str(path) for path in sources.values() if not path.is_file()]
    if missing:
        raise VesaliusError(f"the dictionary names sets that are not there: {', '.join(missing)}")
    tables, counts = [], {}
    for name, path in sources.items():
        source = _read_parquet(path)
        if lost := {"image", "label"} - set(source.column_names):
            raise VesaliusError(f"{path} lacks the column {', '.join(sorted(lost))}")
        table, dropped = _one_set(name, source, dictionary[name], val_fraction, seed)
        tables.append(table)
        held = table["split"].to_pylist().count("val")
        counts[name] = {"train": table.num_rows - held, "val": held, "dropped": dropped}
    merged = pa.concat_tables(tables, promote_options="permissive")
    with atomic_path(out) as temporary:
        pq.write_table(merged, temporary, row_group_size=256)
    return counts


def _one_set(
    name: str, source: pa.Table, dictionary: SetDictionary, val_fraction: float, seed: int
) -> tuple[pa.Table, int]:
    attributes: list[Row] = source.drop_columns(["image"]).to_pylist()
    keep = [i for i, row in enumerate(attributes) if row["label"] not in dictionary.drop]
    images = [source["image"][i].as_py() for i in keep]
    hashes = [hashlib.sha1(image["bytes"]).hexdigest() for image in images]
    rows = [attributes[i] for i in keep]
    groups = [
        f"{name}/{(dictionary.group and row.get(dictionary.group)) or digest}"
        for row, digest in zip(rows, hashes, strict=True)
    ]
    held = hold_out(groups, val_fraction, seed)
    columns: dict[str, pa.Array] = {
        "image": pa.array(images, IMAGE_TYPE),
        "caption": pa.array(
            [caption(row, dictionary, digest) for row, digest in zip(rows, hashes, strict=True)]
        ),
        "label": pa.array([str(row["label"]) for row in rows]),
        "group": pa.array(groups),
        "split": pa.array(["val" if out else "train" for out in held]),
        "source": pa.array([name] * len(rows)),
        "row": pa.array(keep, pa.int64()),
        "sha1": pa.array(hashes),
        "symmetry": pa.array([dictionary.symmetry] * len(rows)),
    }
    for column in source.column_names:
        if column not in columns:
            values = [row[column] for row in rows]
            texts = [None if value is None else str(value) for value in values]
            columns[column] = pa.array(texts, pa.string())
    return pa.table(columns), source.num_rows - len(rows)
