"""Rows of a tensor store made up on the disk, without what they would be computed from.

Each shard is a safetensors file as `core.tensor_store` writes it. The tensors of `empty` are holes in
the file: they read as zeros, and take no room on the disk.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Shape = tuple[str, tuple[int, ...]]  # safetensors' type, and the shape of a row
_BYTES = {"U8": 1, "F16": 2, "F32": 4}


def write_shard(
    path: Path,
    made_with: Mapping[str, str],
    filled: Mapping[str, np.ndarray],
    empty: Mapping[str, Shape],
) -> None:
    """One shard: `filled` (n, ...) uint8, float16 or float32, of which `key` is one, and `empty`."""
    count, place, header = len(filled["key"]), 0, {"__metadata__": dict(made_with)}
    kinds = {"uint8": "U8", "float16": "F16", "float32": "F32"}
    about: dict[str, Shape] = {n: (kinds[a.dtype.name], a.shape[1:]) for n, a in filled.items()}
    for name, (kind, shape) in {**about, **empty}.items():
        size = count * _BYTES[kind] * int(np.prod(shape))
        span = [place, place + size]
        header[name] = {"dtype": kind, "shape": [count, *shape], "data_offsets": span}  # pyright: ignore[reportArgumentType]
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in filled.values():
            file.write(array.tobytes())
        file.truncate(8 + len(text) + place)


def spans(size: int, row_bytes: int, shard_bytes: int) -> Sequence[tuple[int, int]]:
    """First and last row, exclusive, of each shard that so many rows fill."""
    step = max(1, shard_bytes // row_bytes)
    return [(start, min(start + step, size)) for start in range(0, size, step)]
