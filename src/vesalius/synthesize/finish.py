"""What a set gets when its last chunk is there: manifest, contact sheet, counts."""

import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vesalius._version import __version__
from vesalius.core.atomic import remove
from vesalius.images.dicom_pixels import decode, is_dicom
from vesalius.images.pixels import open_rgb
from vesalius.images.sheets import contact_sheet, thumbnail, write_png
from vesalius.models.folder import read_json
from vesalius.synthesize.claim import ABOUT, write_json
from vesalius.synthesize.store import read_image, read_record, recorded

MANIFEST = "manifest.jsonl"
SHEET = "contact-sheet.png"
_ON_SHEET = 64
_TILE = 256  # pixels


def finish(out: Path, work: Path, chunks: int, *, changed: bool) -> dict[str, Any] | None:
    """Write the manifest in the plan's order, the contact sheet and the counts, if all is there.

    Returns the counts, or None where chunks are missing. Any number of runs may do this at once:
    all write the same. One that has `changed` nothing leaves what is there.
    """
    about = read_json(out / ABOUT)
    if not changed and (out / MANIFEST).is_file() and "counts" in about:
        return about["counts"]
    if len(recorded(out)) < chunks:
        return None
    counts = {"rows": 0, "images": 0, "rejected_images": 0, "rejected_rows": 0}
    shown: list[dict[str, Any]] = []
    stage = work / MANIFEST
    with stage.open("w", encoding="utf-8", newline="\n") as file:
        for number in range(chunks):
            if (record := read_record(out, number)) is None:
                return None  # another run has just found it broken
            for row in record["rows"]:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts["rows"] += 1
                counts["images"] += row["file"] is not None
                counts["rejected_rows"] += row["file"] is None
                counts["rejected_images"] += len(row["rejected"])
                if row["file"] is not None and len(shown) < _ON_SHEET:
                    shown.append(row)
    if shown:
        _write_sheet(out, work, shown, counts["images"])
    write_json(out / ABOUT, work, about | {"counts": counts})
    os.replace(stage, out / MANIFEST)
    return counts


def unfinish(out: Path) -> None:
    """Take away what `finish` wrote: a set has a manifest only when it is whole."""
    remove(out / MANIFEST)
    remove(out / SHEET)


def _write_sheet(out: Path, work: Path, rows: Sequence[dict[str, Any]], images: int) -> None:
    first = rows[0]
    count = f"{len(rows)} of {images}" if len(rows) < images else f"{images}"
    adapters = f" + {first['adapters']}" if first["adapters"] else ""
    title = (
        f"SYNTHETIC images, not of any patient: {count} by vesalius {__version__} with "
        f"{first['model']} ({first['model_hash']}){adapters}"
    )
    tiles = [thumbnail(_opened(read_image(out, row["file"])), _TILE) for row in rows]
    captions = [f"{row['prompt']} (seed {row['seed']})" for row in rows]
    columns = max(2, min(8, math.ceil(math.sqrt(len(rows)))))
    sheet = contact_sheet(tiles, captions, columns, title=title, tile=_TILE)
    about = {key: first[key] for key in ("synthetic", "model", "model_hash", "adapters", "version")}
    write_png(work / SHEET, sheet, about)
    os.replace(work / SHEET, out / SHEET)


def _opened(content: bytes) -> Image.Image:
    if not is_dicom(content):
        return open_rgb(content)
    stream = io.BytesIO()
    Image.fromarray(decode(content, "full").array).save(stream, "PNG")
    return open_rgb(stream.getvalue())
