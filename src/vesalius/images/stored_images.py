"""Images as the rows of a manifest name them, in any of the stores that `vesalius synthesize` writes.

    images/LABEL/000384.png                         a file
    synthetic-000012-of-000313.tar:384.png          a member of a tar
    data/synthetic-000012-of-000313.parquet:7       a row of a Parquet table

Of a tar only the places of its members are held, of tables the row groups read last. DICOM is given
as the PNG of its pixels, which every reader of images here understands.
"""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from vesalius.core.manifest import read_manifest
from vesalius.errors import VesaliusError, first_line
from vesalius.images.dicom_pixels import decode, is_dicom

MANIFEST = "manifest.jsonl"
_HELD_GROUPS = 4  # row groups of tables; `vesalius synthesize --chunk` decides how large they are
Load = Callable[[], bytes]


def rows_with_images(folder: Path) -> list[dict[str, Any]]:
    """The rows of a set's manifest, without those of which every attempt was rejected.

    Raises VesaliusError for a row that does not say which file is its image.
    """
    rows = read_manifest(folder / MANIFEST)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("file", ""), str | None) or row.get("file", "") == "":
            raise VesaliusError(f"{folder / MANIFEST}, row {number} names no `file`")
    return [row for row in rows if row["file"] is not None]


def loads(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[Load]:
    """What reads the image file of each row; may be called from several threads.

    Raises VesaliusError for a tar or table that cannot be read, or lacks what a row names.
    """
    tables = _Tables()
    opened: dict[str, Callable[[str], Load]] = {}
    made: list[Load] = []
    for row in rows:
        path, colon, member = row["file"].rpartition(":")
        if not colon or not path.endswith((".tar", ".parquet")):
            made.append(partial(_whole, folder / row["file"]))
            continue
        if path not in opened:
            of_tar = path.endswith(".tar")
            opened[path] = _of_tar(folder / path) if of_tar else tables.open(folder / path)
        try:
            made.append(opened[path](member))
        except (KeyError, ValueError) as error:
            raise VesaliusError(f"{folder / path} has no image {member!r}") from error
    return [partial(_as_image, load) for load in made]


def _as_image(load: Load) -> bytes:
    data = load()
    if not is_dicom(data):
        return data
    stream = io.BytesIO()
    Image.fromarray(decode(data, "full").array).save(stream, "PNG")
    return stream.getvalue()


def _whole(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise VesaliusError(f"{path} cannot be read: {first_line(error)}") from error


def _of_tar(path: Path) -> Callable[[str], Load]:
    try:
        with tarfile.open(path, "r:") as tar:  # reads headers and jumps over what they are of
            places = {m.name: (m.offset_data, m.size) for m in tar if m.isreg()}
    except (OSError, tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise VesaliusError(f"{path} cannot be read: {error}") from error
    return lambda member: partial(_slice, path, *places[member])


def _slice(path: Path, start: int, size: int) -> bytes:
    if path.stat().st_size < start + size:
        raise VesaliusError(f"{path} breaks off: make the set again")
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


class _Tables:
    """Parquet tables with a column `image`; only a few of their row groups are held at a time."""

    def __init__(self) -> None:
        self._group = lru_cache(_HELD_GROUPS)(_read_group)
        self._lock = Lock()

    def open(self, path: Path) -> Callable[[str], Load]:
        from vesalius.core.parquet import open_parquet

        if not path.is_file():
            raise VesaliusError(f"{path} cannot be read: it is not there")
        with open_parquet(path) as file:
            metadata = file.metadata
        sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
        ends = np.cumsum(sizes)

        def load(member: str) -> Load:
            row = int(member)
            if not 0 <= row < sum(sizes):
                raise KeyError(member)
            number = int(np.searchsorted(ends, row, side="right"))
            return partial(self._read, path, number, row - int(ends[number]) + sizes[number])

        return load

    def _read(self, path: Path, number: int, place: int) -> bytes:
        with self._lock:
            group = self._group(path, number)
        if not isinstance(data := group[place]["bytes"].as_py(), bytes):
            raise VesaliusError(f"{path} has no image in row {place} of a part: make the set again")
        return data


def _read_group(path: Path, number: int) -> Any:
    import pyarrow as pa

    from vesalius.core.parquet import open_parquet, read_columns, reading_parquet

    with open_parquet(path) as file, reading_parquet(path):
        found = read_columns(file, path, ["image"], [number])["image"]
        kind = found.type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise VesaliusError(f"{path} holds no images: its column image is {kind}")
        return found.combine_chunks()
