"""The cache of latents: opened, what is new in it found and written, an epoch of it sampled.

Latents are those of a 256 px image under `mini` (4 x 32 x 32, mean and deviation), made up. Those of
the first stage are zeros that take no room on the disk. What is new is a hundredth of the rows.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.growth.measuring import Stage
from benchmarks.growth.stored import spans, write_shard
from vesalius.core.tensor_store import KEY_BYTES, SHARD_BYTES, keys_of, open_store
from vesalius.train.latents import Latents

SHAPE = (4, 32, 32)
MADE_WITH = {"autoencoder": "made up"}
BATCH, MOST_SAMPLED, TEXTS = 64, 20_000, 1_000


def shards(size: int, folder: Path) -> np.ndarray:
    """All rows but every hundredth; returns the keys of all."""
    keys = keys_of(f"{row}/0" for row in range(size))
    there = keys[np.arange(size) % 100 > 0]
    row_bytes = 2 * 2 * int(np.prod(SHAPE))
    for start, stop in spans(len(there), row_bytes, SHARD_BYTES):
        part = there[start:stop].view(np.uint8).reshape(-1, KEY_BYTES)
        empty = {name: ("F16", SHAPE) for name in ("mean", "std")}
        write_shard(folder / f"{start:09}.safetensors", MADE_WITH, {"key": part}, empty)
    return keys


def use(size: int, folder: Path, keys: np.ndarray) -> dict[str, Any]:
    """Open, fill, and sample an epoch, or its first batches: seconds of an epoch by these.

    They are sampled twice: what is read from the disk first is in the page cache then.
    """
    seconds, began = {}, time.process_time()
    store = open_store(folder, MADE_WITH, keys)
    seconds["opening"], began = time.process_time() - began, time.process_time()

    def encode(positions: list[int]) -> dict[str, torch.Tensor]:
        zeros = torch.zeros((len(positions), *SHAPE), dtype=torch.float16)
        return {"mean": zeros, "std": zeros}

    store.fill(encode, BATCH)
    seconds["filling"], began = time.process_time() - began, time.process_time()
    every = torch.arange(size)
    states = torch.zeros((TEXTS, 8, 16), dtype=torch.float16)
    latents = Latents(
        store.rows("mean"), store.rows("std"), every, torch.ones_like(every), states,
        every % TEXTS, states[0], 1.0,
    )  # fmt: skip
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(0)
    sampled = order[:MOST_SAMPLED].split(BATCH)
    for what in ("an epoch", "an epoch in the page cache"):
        began = time.process_time()
        for rows in sampled:
            latents.sample(rows, draw)
            latents.text(rows, torch.zeros(len(rows), dtype=torch.bool))
        seconds[what] = (time.process_time() - began) / sum(map(len, sampled)) * size
    return {"parts": {name: round(value, 3) for name, value in seconds.items()}}


STAGES = {"latents: cache": Stage("images", (10_000, 100_000, 1_000_000), use, shards)}
