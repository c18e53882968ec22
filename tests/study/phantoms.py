"""Small pictures with a left and a right, of the same kind on both arms, and tables and sets of them."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 48
LABELS = ("effusion", "normal")
Picture = Image.Image


def phantom(label: str, rng: np.random.Generator, side: int = SIDE) -> Picture:
    """A chest with its heart on one side, and an effusion at the bottom; grey."""
    y, x = np.mgrid[:side, :side] / side
    values = 90 + 40 * gaussian_filter(rng.normal(size=(side, side)), 3) * 6
    values += 70 * np.exp(-(((x - 0.65) / 0.15) ** 2 + ((y - 0.55) / 0.2) ** 2))
    values -= 50 * (((x - 0.3) / 0.18) ** 2 + ((y - 0.4) / 0.3) ** 2 < 1)
    if label == "effusion":
        values += 60 * (y > 0.75 + 0.05 * rng.random())
    values += rng.normal(0, 4, (side, side))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def png(picture: Picture) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def jpeg(picture: Picture, quality: int = 60) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def write_pairs(
    path: Path,
    number: int = 60,
    encode: Callable[[Picture], bytes] = png,
    split: Callable[[int], str] = lambda k: "test" if k % 3 else "val",
    **columns: Callable[[int], str],
) -> Path:
    """A pairs table of so many held-out images, two of every fifth patient."""
    rng = np.random.default_rng(1)
    labels = [LABELS[k % 2] for k in range(number)]
    files = [encode(phantom(label, rng)) for label in labels]
    # image k + 1 of a patient is the second of every fifth one
    table = {
        "image": [{"bytes": data, "path": None} for data in files],
        "caption": [f"chest X-ray, {label}" for label in labels],
        "label": labels,
        "group": [f"chest/p{k - (k % 10 == 2) * 2}" for k in range(number)],
        "split": [split(k - (k % 10 == 2) * 2) for k in range(number)],
        "source": ["chest"] * number,
        "row": [str(k) for k in range(number)],
        "sha1": [hashlib.sha1(data).hexdigest() for data in files],
        "symmetry": ["none"] * number,
    }
    table |= {name: [value(k) for k in range(number)] for name, value in columns.items()}
    pq.write_table(pa.table(table), path)
    return path


def write_set(
    folder: Path,
    number: int = 40,
    encode: Callable[[Picture], bytes] = png,
    change: Callable[[Picture], Picture] = lambda picture: picture,
    seed: int = 2,
    side: int = SIDE,
    **columns: Callable[[int], str],
) -> Path:
    """A synthetic set of so many images, with its manifest."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for k in range(number):
        label = LABELS[k % 2]
        file = f"images/{k:03d}.{'png' if encode is png else 'jpg'}"
        (folder / file).write_bytes(encode(change(phantom(label, rng, side))))
        row = {"file": file, "row": k, "label": label, "prompt": f"chest X-ray, {label}"}
        rows.append(row | {"synthetic": True} | {name: of(k) for name, of in columns.items()})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
