"""Read every image of a source once, check it, and keep the outcome in parts that survive a stop.

A part is an Arrow file of consecutive items: what the reader said, the image as it will be stored,
its hash and thumbnail, or the reason why it is skipped. A scan that was stopped goes on after the
last part whose items are still the same ones (by key, size and modification time).
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.images.dicom_pixels import decode, is_bare_dicom, is_dicom
from vesalius.images.pixels import THUMB, BadImage, Pixels, prepare
from vesalius.pairs.readers import Found, Skipped

PART = pa.schema(
    [
        ("key", pa.string()),
        ("stamp", pa.string()),
        ("reason", pa.string()),  # why the row is skipped; null for a good one
        ("image", pa.large_binary()),
        ("thumb", pa.binary(THUMB * THUMB)),
        ("sha1", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("bits", pa.int32()),
        ("notes", pa.string()),
        ("label", pa.string()),
        ("caption", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("attributes", pa.string()),  # JSON
        ("identities", pa.string()),  # of DICOM: what names the patient, a line each
    ]
)
# What of a part is the source's content, rather than when its files were written.
CONTENT = [name for name in PART.names if name not in ("stamp", "image", "thumb")]
PART_ROWS = 1000
PART_BYTES = 32_000_000
_TOGETHER = 4  # items of one task
_AHEAD = 8  # tasks waiting or at work
_WORKERS = min(4, os.cpu_count() or 1)  # each may hold a large image
_TOLD = 50  # images from one word of progress to the next

Row = dict[str, Any]


def scan(
    items: Iterator[Found | Skipped],
    folder: Path,
    *,
    window: str = "auto",
    bits: int = 8,
    strict: bool = False,
    part_rows: int = PART_ROWS,
    on_images: Callable[[int], None] = lambda images: None,
) -> list[Path]:
    """Scan `items` into `folder`, or finish what an earlier scan of the same items began.

    `on_images` gets how many more items are done. With `strict` the first bad one raises
    VesaliusError. Returns the parts in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts, ahead = _still_good(items, folder, on_images)
    items = _chain(ahead, items)
    rows: list[Row] = []
    size = 0
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for row in _in_order(pool, items, window, bits):
                if strict and row["reason"]:
                    raise VesaliusError(f"{row['key']}: {row['reason']} (--strict stops at it)")
                rows.append(row)
                size += len(row["image"] or b"")
                if len(rows) % _TOLD == 0:
                    on_images(_TOLD)
                if len(rows) >= part_rows or size >= PART_BYTES:
                    on_images(len(rows) % _TOLD)
                    parts.append(_write_part(folder, len(parts), rows))
                    rows, size = [], 0
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if rows:
        on_images(len(rows) % _TOLD)
        parts.append(_write_part(folder, len(parts), rows))
    return parts


def open_part(path: Path) -> pa.Table:
    """A part, memory-mapped: only what is asked for is read."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _still_good(
    items: Iterator[Found | Skipped], folder: Path, on_images: Callable[[int], None]
) -> tuple[list[Path], list[Found | Skipped]]:
    """Parts whose items are the next ones of `items`, and the items taken but not covered."""
    good: list[Path] = []
    for path in sorted(folder.glob("part-*.arrow")):
        if (part := _readable(path)) is None:
            break
        known = list(zip(part["key"].to_pylist(), part["stamp"].to_pylist(), strict=True))
        taken = list(islice(items, len(known)))
        if [(item.key, item.stamp) for item in taken] != known:
            return good, taken
        good.append(path)
        on_images(len(known))
    return good, []


def _readable(path: Path) -> pa.Table | None:
    try:
        part = open_part(path)
    except (OSError, pa.ArrowInvalid):
        return None
    return part if part.schema.equals(PART) else None


def _in_order(
    pool: ThreadPoolExecutor, items: Iterator[Found | Skipped], window: str, bits: int
) -> Iterator[Row]:
    """The rows of `items`, in their order, a bounded number of them at work at a time."""
    waiting: deque[Future[list[Row]]] = deque()
    while True:
        while len(waiting) < _AHEAD and (some := list(islice(items, _TOGETHER))):
            waiting.append(pool.submit(lambda some: [_row(i, window, bits) for i in some], some))
        if not waiting:
            return
        yield from waiting.popleft().result()


def _row(item: Found | Skipped, window: str, bits: int) -> Row:
    row: Row = dict.fromkeys(PART.names) | {"key": item.key, "stamp": item.stamp}
    if isinstance(item, Skipped):
        return row | {"reason": item.reason}
    try:
        return row | _good_row(item, window, bits)
    except VesaliusError:  # of the whole run: an extra that is not installed, say
        raise
    except BadImage as error:
        reason = str(error)
    except OSError as error:
        # without its stamp: the next run looks again, for what went wrong may have been mended
        row["stamp"] = "unread"
        reason = f"cannot be read: {error.strerror or error}"
    except Exception as error:  # whatever a damaged file makes a library raise
        reason = f"damaged: {type(error).__name__} {error}"
    return row | {"reason": " ".join(reason.split())[:200]}


def _good_row(item: Found, window: str, bits: int) -> Row:
    content = item.load()
    if isinstance(content, bytes) and (is_dicom(content) or is_bare_dicom(content)):
        content = decode(content, window, bits=bits)
    attributes, identities = dict(item.attributes), None
    if is_of_pairs(attributes):  # windowed before it came into that table
        window, bits = "full", 16
    if isinstance(content, Pixels):
        image = prepare(content.array, window, bits)
        image = replace(image, bits=content.bits, notes=(*content.notes, *image.notes))
        attributes = content.attributes | attributes
        if content.identities is not None:
            identities = "\n".join(content.identities)
    else:
        image = prepare(content, window, bits)
        if is_of_pairs(attributes) and attributes["sha1"] != _sha1(content):
            raise BadImage("its sha1 is not that of its image")
    return {
        "image": image.data,
        "thumb": image.thumb,
        "sha1": _sha1(image.data),
        "width": image.width,
        "height": image.height,
        "mode": image.mode,
        "bits": image.bits,
        "notes": "; ".join(image.notes),
        "label": item.label,
        "caption": item.caption,
        "group": item.group or attributes.get("patient_id"),
        "split": item.split,
        "attributes": json.dumps(attributes, ensure_ascii=False, sort_keys=True),
        "identities": identities,
    }


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def is_of_pairs(attributes: Mapping[str, str]) -> bool:
    """Whether a row came from a table that this package wrote."""
    return attributes.keys() >= {"source", "row", "sha1"} and attributes["row"].isdigit()


def _write_part(folder: Path, number: int, rows: list[Row]) -> Path:
    path = folder / f"part-{number:05}.arrow"
    columns = {name: [row[name] for row in rows] for name in PART.names}
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_file(file, PART) as writer,
    ):
        writer.write_table(pa.table(columns, schema=PART))
    return path


def _chain(
    first: list[Found | Skipped], rest: Iterator[Found | Skipped]
) -> Iterator[Found | Skipped]:
    yield from first
    yield from rest
