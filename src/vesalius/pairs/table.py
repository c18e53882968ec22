"""The table of image-text pairs, opened: the door through which every stage reads images.

One Parquet file, one row an image. Columns: `image` struct<bytes, path> (encoded), `caption`,
`label`, `group` (what no split cuts through), `split` (train, val, test or unused), `source`, `row`
and `key` (where the image came from), `sha1` (of the image's bytes), `symmetry`, `width`, `height`,
`bits` (of the source), then the source's own attributes as text.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.core.parquet import open_parquet, read_columns
from vesalius.core.paths import did_you_mean_path
from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet
from vesalius.images.pixels import open_rgb, square

FORMAT = ("image", "caption", "label", "group", "split")  # what others must write to be read
REQUIRED = (*FORMAT, "source", "sha1", "symmetry")
_HELD_BYTES = 500_000_000  # of encoded images, in row groups used last


class Pairs(ImageSet):
    """An opened pairs table: the text columns in memory, images read by row group when asked for.

    Rows may be read from several threads.
    """

    def __init__(self, path: Path | str) -> None:
        """Open a table. Raises VesaliusError when it is missing or not such a table."""
        self._file = open_table(path, REQUIRED)
        names = self._file.schema_arrow.names
        self._path = path
        self.table = read_columns(self._file, path, [name for name in names if name != "image"])
        _check_types(self._file.schema_arrow, path)
        metadata = self._file.metadata
        groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
        self._ends = np.cumsum([group.num_rows for group in groups])
        largest = max((group.total_byte_size for group in groups), default=1)
        self._group = lru_cache(max(2, _HELD_BYTES // max(1, largest)))(self._read_group)
        self._lock = Lock()

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> list[str]:
        """One text column as a list."""
        return self.table[name].to_pylist()

    def rows(self, split: str) -> list[int]:
        """Indices of one split."""
        return [i for i, name in enumerate(self.column("split")) if name == split]

    def encoded(self, index: int) -> bytes:
        """The image file of a row."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[number - 1]) if number else 0
        with self._lock:
            group = self._group(number)
        return group[index - first]["bytes"].as_py()

    def image(self, index: int, size: int) -> np.ndarray:
        """Row `index` as (size, size, 3) uint8 RGB: short side to `size`, centre crop."""
        return square(open_rgb(self.encoded(index)), size)

    def _read_group(self, number: int) -> pa.Array:
        images = read_columns(self._file, self._path, ["image"], [number])["image"]
        return images.combine_chunks()


def open_table(path: Path | str, required: Sequence[str]) -> pq.ParquetFile:
    """Open a Parquet file that has these columns; nothing of it is read yet.

    Raises VesaliusError when it is missing, something else, or lacks a column.
    """
    if not Path(path).is_file():
        raise VesaliusError(
            f"no pairs table at {path}{did_you_mean_path(path) or ': make one with `vesalius pairs`'}"
        )
    file = open_parquet(path)
    names = file.schema_arrow.names
    if len({*names}) < len(names):
        raise VesaliusError(f"{path} has two columns of one name: rename or delete one")
    if missing := [name for name in required if name not in names]:
        raise VesaliusError(
            f"{path} is not a pairs table: it lacks {', '.join(missing)}; "
            f"`vesalius pairs {path} --out NEW.parquet` makes one of any table with images"
        )
    return file


def _check_types(schema: pa.Schema, path: Path | str) -> None:
    """Raise VesaliusError unless the columns that every stage reads are text, and images bytes."""
    image = schema.field("image").type
    if not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
        raise VesaliusError(f"{path}: image is {image}, and should have the bytes of image files")
    for name in (*REQUIRED[1:], "image"):
        kind = image.field("bytes").type if name == "image" else schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
        fits = (pa.types.is_binary, pa.types.is_large_binary) if name == "image" else texts
        if not any(fit(kind) for fit in fits):
            raise VesaliusError(
                f"{path}: {name} is {kind}, and should be text or, of images, bytes"
            )


def read_pairs(path: Path | str) -> Pairs:
    """Open a pairs Parquet file. Raises VesaliusError when it is missing or not such a table."""
    return Pairs(path)
