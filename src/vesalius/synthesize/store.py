"""A set on disk: each chunk is there with its images and its record, or not at all.

    about.json              what the set is made from, and how
    images/000012/384.png   of a folder; or synthetic-000012-of-000313.tar (WebDataset);
                            or data/synthetic-000012-of-000313.parquet
    chunks/000012.json      a record: the hash of each file, the rows of the manifest
    manifest.jsonl, contact-sheet.png     once all chunks are there

The images are moved into place first and the record last. So whatever a kill leaves behind is
without a record, and is made again.
"""

import hashlib
import io
import json
import os
import tarfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.core.atomic import remove
from vesalius.core.manifest import file_sha256
from vesalius.synthesize.chunks import name_of

RECORDS = "chunks"
_NOT_IN_TABLE = ("file", "caption", "label")  # of a manifest row: has a column or file of its own


@dataclass(frozen=True)
class Made:
    """A row of the plan as it goes into the set; `data` is None where no attempt was accepted."""

    name: str  # of its file
    row: dict[str, Any]  # of the manifest, without `file`
    data: bytes | None


@dataclass(frozen=True)
class _Written:
    """What a writer left at the path that it was given, and where in the set that belongs."""

    place: str
    files: dict[str, str]  # path in the set -> SHA-256
    locations: list[str]  # of the images, in order


Writer = Callable[[Path, str, Sequence[Made]], _Written]


def save_chunk(
    out: Path, work: Path, number: int, chunks: int, made: Sequence[Made], store: str
) -> None:
    """Put a chunk into the set `out`. `work` is a folder on the same disk for what is not whole yet.

    Raises OSError where the disk is full; the set is then as it was.
    """
    kept = [one for one in made if one.data is not None]
    stage = work / uuid.uuid4().hex
    record: dict[str, Any] = {"files": {}, "rows": []}
    locations = iter(())
    try:
        if kept:
            name = name_of(number)
            written = STORES[store](stage, f"{name}-of-{name_of(chunks)}", kept)
            record["files"], locations = written.files, iter(written.locations)
            final = out / written.place
            final.parent.mkdir(exist_ok=True)
            remove(final)  # of a chunk that was found broken, or was without its record
            os.replace(stage, final)
        for one in made:
            file = None if one.data is None else next(locations)
            record["rows"].append({"file": file, **one.row})
        stage.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        os.replace(stage, record_path(out, number))
    finally:
        remove(stage)


def record_path(out: Path, number: int) -> Path:
    """Where the record of a chunk is."""
    return out / RECORDS / f"{name_of(number)}.json"


def recorded(out: Path) -> list[int]:
    """Numbers of the chunks that have a record, right or not."""
    folder = out / RECORDS
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(
        int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()
    )


def read_record(out: Path, number: int) -> dict[str, Any] | None:
    """A chunk's record; None where there is none that can be read."""
    try:
        record = json.loads(record_path(out, number).read_text(encoding="utf-8"))
        rows, files = record["rows"], record["files"]
        whole = isinstance(files, dict) and all(isinstance(row["row"], int) for row in rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def fault(out: Path, number: int, rows: Sequence[int]) -> str | None:
    """What is wrong with a recorded chunk that should have these rows of the plan; None if nothing.

    Every file of it is read and hashed.
    """
    record = read_record(out, number)
    if record is None:
        return "its record cannot be read"
    if [row["row"] for row in record["rows"]] != list(rows):
        return "its record has other rows"
    for name, sha256 in record["files"].items():
        try:
            if file_sha256(out / name) != sha256:
                return f"{name} is not what was written"
        except OSError:
            return f"{name} is missing"
    return None


def read_image(out: Path, file: str) -> bytes:
    """The encoded image that a manifest's `file` names, of any store."""
    path, _, member = file.rpartition(":")
    if path.endswith(".tar"):
        with tarfile.open(out / path) as tar:
            content = tar.extractfile(member)
            return content.read() if content else b""
    if path.endswith(".parquet"):
        import pyarrow.parquet as pq

        images = pq.read_table(out / path, columns=["image"])["image"]
        return images[int(member)]["bytes"].as_py()
    return (out / file).read_bytes()


def _write_folder(stage: Path, name: str, made: Sequence[Made]) -> _Written:
    stage.mkdir()
    place = f"images/{name.partition('-')[0]}"
    for one in made:
        (stage / one.name).write_bytes(one.data or b"")
    locations = [f"{place}/{one.name}" for one in made]
    hashes = [one.row["sha256"] for one in made]
    return _Written(place, dict(zip(locations, hashes, strict=True)), locations)


def _write_tar(stage: Path, name: str, made: Sequence[Made]) -> _Written:
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
    return _Written(place, files, [f"{place}:{one.name}" for one in made])


def _write_parquet(stage: Path, name: str, made: Sequence[Made]) -> _Written:
    """The columns that `data.pairs.FORMAT` asks for, then the rest of the manifest as text."""
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
    return _Written(place, files, [f"{place}:{k}" for k in range(len(made))])


def _as_text(value: Any) -> str | None:
    """As the readers understand a cell; an empty list says nothing."""
    if isinstance(value, str) or value is None:
        return value or None
    return json.dumps(value, ensure_ascii=False) if value != [] else None


STORES: dict[str, Writer] = {
    "folder": _write_folder,
    "webdataset": _write_tar,
    "parquet": _write_parquet,
}


def sha256(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()
