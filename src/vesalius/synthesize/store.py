"""A set on disk: each chunk is there with its images and its record, or not at all.

    about.json              what the set is made from, and how
    images/LABEL/000384.png of a folder; or synthetic-000012-of-000313.tar (WebDataset);
                            or data/synthetic-000012-of-000313.parquet
    chunks/000012.json      a record: the hash of each file, the rows of the manifest
    manifest.jsonl, contact-sheet.png, metadata.jsonl of a folder     once all chunks are there

The images are moved into place first and the record last. So whatever a kill leaves behind is
without a record, and is made again.
"""

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.core.atomic import move, remove
from vesalius.core.manifest import file_sha256
from vesalius.synthesize.settings import STORES
from vesalius.synthesize.stores import Made, Written, path_in_folder

RECORDS = "chunks"
_OF_ROWS = {"label", "caption", "prompt", "seed"}
_NUMBERS = ("steps", "guidance")
_OF_IMAGES = {"synthetic", "model", "model_hash", "adapters", "version", *_NUMBERS}


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
            written: Written = STORES.load(store)(stage, f"{name}-of-{name_of(chunks)}", kept)
            record["files"], locations = written.files, iter(written.locations)
            _move(stage, out, written)
        for one in made:
            if one.data is None:
                remove(out / path_in_folder(one))  # of a run that died before it could record it
            file = None if one.data is None else next(locations)
            record["rows"].append({"file": file, **one.row})
        stage.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        move(stage, record_path(out, number))
    finally:
        remove(stage)


def _move(stage: Path, out: Path, written: Written) -> None:
    """Put what a store has written where it belongs, instead of what a chunk without record left."""
    place = out / written.place
    if not written.shared:
        place.parent.mkdir(exist_ok=True)
        remove(place)
        move(stage, place)
        return
    for name in written.files:
        final = out / name
        final.parent.mkdir(parents=True, exist_ok=True)
        move(stage / final.relative_to(place), final)
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
        whole = isinstance(record["files"], dict) and all(map(_is_whole, record["rows"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record if whole else None


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a row of a record says what the set's manifest and contact sheet need."""
    file, needed = row["file"], _OF_ROWS if row["file"] is None else _OF_ROWS | _OF_IMAGES
    return (
        isinstance(row["row"], int)
        and isinstance(row["rejected"], list)
        and isinstance(file, str | None)
        and needed <= row.keys()
        and (file is None or all(isinstance(row[name], int | float) for name in _NUMBERS))
    )


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


def name_of(number: int) -> str:
    """A chunk's name: `000012`."""
    return f"{number:06d}"
