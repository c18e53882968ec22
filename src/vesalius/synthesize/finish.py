"""What a set gets when its last chunk is there: manifest, contact sheet, counts, and `metadata.jsonl`."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vesalius.core.atomic import move, remove
from vesalius.core.documents import read_json
from vesalius.images.pixels import open_rgb
from vesalius.images.sheets import thumbnail
from vesalius.images.stored_images import loads
from vesalius.sample.folder import (
    MANIFEST,
    MOST_ON_SHEET,
    SHEET,
    TILE,
    drawn_with,
    made_by,
    save_sheet,
)
from vesalius.synthesize.claim import ABOUT, write_json
from vesalius.synthesize.store import read_record, recorded

METADATA = "metadata.jsonl"  # of images in a folder, as `datasets` reads it


@dataclass(frozen=True)
class Counts:
    """What became of the plan's rows."""

    rows: int = 0
    images: int = 0
    rejected_images: int = 0
    rejected_rows: int = 0  # of which every attempt was rejected


def finish(out: Path, work: Path, chunks: int, *, changed: bool) -> Counts | None:
    """Write the manifest in the plan's order, the contact sheet and the counts, if all is there.

    Returns the counts, or None where chunks are missing. Any number of runs may do this at once:
    all write the same. One that has `changed` nothing leaves what is there.
    """
    about = read_json(out / ABOUT)
    if not changed and (out / MANIFEST).is_file() and (there := _counts(about)):
        return there
    if len(recorded(out)) < chunks:
        return None
    rows = images = tries = 0
    shown: list[dict[str, Any]] = []
    stage, metadata = work / MANIFEST, work / METADATA
    with (
        stage.open("w", encoding="utf-8", newline="\n") as file,
        metadata.open("w", encoding="utf-8", newline="\n") as brief,
    ):
        for number in range(chunks):
            if (record := read_record(out, number)) is None:
                return None  # another run has just found it broken
            for row in record["rows"]:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                rows += 1
                images += row["file"] is not None
                tries += len(row["rejected"])
                if row["file"] is None:
                    continue
                said = {"file_name": row["file"], "text": row["caption"], "label": row["label"]}
                brief.write(json.dumps(said, ensure_ascii=False) + "\n")
                if len(shown) < MOST_ON_SHEET:
                    shown.append(row)
    if shown:
        count = f"{len(shown)} of {images}" if len(shown) < images else f"{images}"
        tiles = [thumbnail(open_rgb(load()), TILE) for load in loads(out, shown)]
        captions = [f"{row['prompt']} (seed {row['seed']})" for row in shown]
        first = shown[0] | {"adapters": _adapters_of(shown)}
        title = f"SYNTHETIC images, not for diagnosis: {count} {made_by(first)}{drawn_with(first)}"
        save_sheet(work / SHEET, tiles, captions, title, first)
        move(work / SHEET, out / SHEET)
        if about.get("store") == "folder":
            move(metadata, out / METADATA)
    counts = Counts(rows, images, tries, rows - images)
    write_json(out / ABOUT, work, about | {"counts": asdict(counts)})
    move(stage, out / MANIFEST)
    return counts


def _adapters_of(rows: list[dict[str, Any]]) -> str:
    """What drew these images besides the model, in a few words."""
    distinct = sorted({str(row["adapters"]) for row in rows})
    return distinct[0] if len(distinct) == 1 else f"{len(distinct)} adapters, by label"


def _counts(about: dict[str, Any]) -> Counts | None:
    """What was counted before; None where nothing was, or nothing that can be read."""
    said = about.get("counts")
    names = {one.name for one in fields(Counts)}
    if not isinstance(said, dict) or {*said} != names:
        return None
    return Counts(**said) if all(isinstance(value, int) for value in said.values()) else None


def unfinish(out: Path) -> None:
    """Take away what `finish` wrote: a set has a manifest only when it is whole."""
    for name in (MANIFEST, SHEET, METADATA):
        remove(out / name)
