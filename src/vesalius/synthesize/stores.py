"""How the images of a chunk are written: files in a folder, a WebDataset tar, a Parquet table.

A store of another package is one function like these, under a name of its own (`settings.STORES`). Its
images must be found again by `images.stored_images`: as a file, or as the member of a tar or a table.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.core.manifest import file_sha256

IMAGES = "images"

_NOT_IN_TABLE = ("file", "caption", "label")  # of a manifest row: has a column or file of its own
_UNLABELLED = "_unlabelled"
_LONGEST = 120  # bytes of a folder's name
# what some file system refuses or hides, and the first letter of a word that `datasets` takes for a split
_SPLIT = "train|training|validation|valid|val|dev|test|testing|evaluation|eval"
_UNSAFE = re.compile(
    rf"[^\w &(),=.~-]|^[._ -]|[. ]\Z|(?<![^-._ 0-9])(?=(?:{_SPLIT})(?![^-._ 0-9]))."
)


@dataclass(frozen=True)
class Made:
    """A row of the plan as it goes into the set; `data` is None where no attempt was accepted."""

    name: str  # of its file
    row: dict[str, Any]  # of the manifest, without `file`
    data: bytes | None


@dataclass(frozen=True)
class Written:
    """What a writer left at the path that it was given, and where in the set that belongs."""

    place: str
    files: dict[str, str]  # path in the set -> SHA-256
    locations: list[str]  # of the images, in order
    shared: bool = False  # `place` is a folder that other chunks have files in, too


def write_folder(stage: Path, name: str, made: Sequence[Made]) -> Written:
    """`images/LABEL/000384.png`, as loaders of image folders expect it."""
    locations = [path_in_folder(one) for one in made]
    for one, location in zip(made, locations, strict=True):
        path = stage / Path(location).relative_to(IMAGES)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.data or b"")
    hashes = [one.row["sha256"] for one in made]
    return Written(IMAGES, dict(zip(locations, hashes, strict=True)), locations, shared=True)


def path_in_folder(one: Made) -> str:
    """Where a folder has this image, or would have it if one had been accepted."""
    return f"{IMAGES}/{class_folder(one.row['label'])}/{one.name}"


def class_folder(label: str) -> str:
    """The folder of a label's images: another one for each label, called like it where that is safe.

    Other characters are written as in a URL, and `edema|effusion` as `edema+effusion`.
    """
    if not label:
        return _UNLABELLED
    name = _UNSAFE.sub(_escaped, label)
    if len(whole := name.encode()) > _LONGEST:
        digest = hashlib.sha256(label.encode()).hexdigest()[:12]
        return f"{whole[:_LONGEST].decode(errors='ignore')}%{digest}"
    return name


def _escaped(found: re.Match[str]) -> str:
    return "+" if found[0] == "|" else "".join(f"%{byte:02X}" for byte in found[0].encode())


def write_tar(stage: Path, name: str, made: Sequence[Made]) -> Written:
    """WebDataset: a sample's image, caption, label and the rest share a name, in this order."""
    place = f"synthetic-{name}.tar"
    with tarfile.open(stage, "w", format=tarfile.USTAR_FORMAT) as tar:
        for one in made:
            stem = one.name.partition(".")[0]
            rest = {key: value for key, value in one.row.items() if key not in _NOT_IN_TABLE}
            members = {
                one.name: one.data or b"",
                f"{stem}.txt": one.row["caption"].encode(),
                f"{stem}.cls": one.row["label"].encode(),
                f"{stem}.json": json.dumps(rest, ensure_ascii=False).encode(),
            }
            for member, content in members.items():
                header = tarfile.TarInfo(member)  # without a time: the same rows, the same bytes
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    files = {place: file_sha256(stage)}
    return Written(place, files, [f"{place}:{one.name}" for one in made])


def write_parquet(stage: Path, name: str, made: Sequence[Made]) -> Written:
    """A pairs table: the columns of `pairs.table.FORMAT`, then the rest of the manifest as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = pa.array(
        [{"bytes": one.data, "path": one.name} for one in made],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    columns: dict[str, Any] = {"image": images}
    for key in ("caption", "label"):
        columns[key] = [one.row[key] for one in made]
    columns["group"] = [f"synthetic-{one.row['row']}" for one in made]
    columns["split"] = ["train"] * len(made)
    for key in made[0].row:
        columns.setdefault(key, [_as_text(one.row[key]) for one in made])
    place = f"data/synthetic-{name}.parquet"
    # images are compressed already
    packed = dict.fromkeys(["image.path", *columns], "zstd") | {"image.bytes": "none"}
    del packed["image"]
    settings: dict[str, Any] = {"compression": packed}
    pq.write_table(pa.table(columns), stage, **settings)
    files = {place: file_sha256(stage)}
    return Written(place, files, [f"{place}:{k}" for k in range(len(made))])


def _as_text(value: Any) -> str | None:
    """As the readers understand a cell; an empty list says nothing."""
    if isinstance(value, str) or value is None:
        return value or None
    return json.dumps(value, ensure_ascii=False) if value != [] else None
