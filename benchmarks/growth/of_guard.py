"""The guard: its index of training images built, opened with made-up looks, and asked."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.growth.measuring import Stage
from benchmarks.growth.stored import spans, write_shard
from benchmarks.made import picture
from vesalius.core.tensor_store import KEY_BYTES, SHARD_BYTES, keys_of
from vesalius.images.calibration import EVERY, FARTHEST, Calibration
from vesalius.images.image_set import ImageSet
from vesalius.images.nearness import Threshold
from vesalius.images.training_index import _MADE_WITH, GRID, MARGINS, SIDE, open_index
from vesalius.synthesize.guard import Guard

ASKED, DRAWN = 16, 64


def made_up(size: int, folder: Path) -> ImageSet:
    """An index's shards: layouts of noise, and thumbnails that are zeros without room on the disk."""
    rng = np.random.default_rng(0)
    names = [f"{row:040x}" for row in range(size)]
    keys = keys_of(names)
    shape = (len(MARGINS), GRID, GRID, 3)
    row_bytes = KEY_BYTES + 4 * int(np.prod(shape)) + SIDE * SIDE + 16
    for start, stop in spans(size, row_bytes, SHARD_BYTES):
        layout = rng.standard_normal((stop - start, *shape), np.float32)
        layout /= np.sqrt(np.square(layout).sum(axis=(2, 3, 4), keepdims=True))
        filled = {"key": keys[start:stop].view(np.uint8).reshape(-1, KEY_BYTES), "layout": layout}
        filled["traits"] = rng.uniform(100, 200, (stop - start, 4)).astype(np.float32)
        path = folder / f"{start:09}.safetensors"
        write_shard(path, _MADE_WITH, filled, {"thumb": ("U8", (SIDE, SIDE))})
    columns = {"sha1": names, "source": ["made up"] * size, "group": [f"p{n // 4}" for n in range(size)]}  # fmt: skip
    return ImageSet([], lambda name: columns[name])


def ask(size: int, folder: Path, images: ImageSet) -> dict[str, Any]:
    """Open the index, and ask it one batch twice: the second time is what each batch takes."""
    seconds, began = {}, time.process_time()
    index = open_index(images, folder)
    seconds["opening"] = time.process_time() - began
    fixed = {EVERY: Threshold(0.13, 0.0, 0, 0.0, 1.0, "given")}
    guard = Guard(index, Calibration(fixed, 0, {}, FARTHEST), {})
    pictures = [np.asarray(picture(number, 256)) for number in range(ASKED)]
    for _ in range(2):
        began = time.process_time()
        verdicts = guard(pictures)
        assert all(each.distance is not None for each in verdicts), "all are to be looked for"
        seconds[f"a batch of {ASKED}"] = time.process_time() - began
    return {"parts": {name: round(value, 3) for name, value in seconds.items()}}


def drawn(size: int, folder: Path) -> ImageSet:
    """`size` images of 256 px of few distinct pictures: each has a byte of its own behind its end."""
    few = []
    for number in range(DRAWN):
        stream = io.BytesIO()
        Image.fromarray(np.asarray(picture(number, 256))).save(stream, "JPEG", quality=90)
        few.append(stream.getvalue())
    loads = [lambda row=row: few[row % DRAWN] for row in range(size)]
    columns = {"sha1": [f"{row:040x}" for row in range(size)]}
    return ImageSet(loads, columns)


def index(size: int, folder: Path, images: ImageSet) -> dict[str, Any]:
    """Read every image and keep its small versions."""
    open_index(images, folder)
    return {"bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors"))}


STAGES = {
    "guard: ask": Stage("training images", (10_000, 100_000, 1_000_000), ask, made_up),
    "guard: index": Stage("training images", (500, 5_000), index, drawn),
}
