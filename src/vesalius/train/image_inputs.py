"""The image side of a contrastive batch: crops of pixels, or features that were taken once."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vesalius.core.tensor_store import TensorStore
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.features import add_features, features_of, open_features
from vesalius.pairs.table import Pairs
from vesalius.train.distributed import on_first_rank, world_size
from vesalius.train.latents import turn
from vesalius.train.session import Session

BLOCK = 32  # images that a network takes at once


class ImageInputs(Protocol):
    """What a method's module is given of images, by the rows of the pairs table."""

    def drawn(self, rows: Sequence[int], draw: torch.Generator) -> Tensor:
        """In training, (B, ...): every random number comes from `draw`."""
        ...

    def whole(self, rows: Sequence[int]) -> Tensor:
        """In validation, (B, ...)."""
        ...


class Crops:
    """Pixels (B, 3, s, s) uint8, decoded when they are asked for."""

    def __init__(self, pairs: Pairs, size: int) -> None:
        self.pairs, self.size = pairs, size
        self.shrunk = size * 8 // 7  # the side before a crop of `size` is taken
        self.symmetric = [name == "square" for name in pairs.column("symmetry")]
        # Decoding goes on while the device is still at the steps before: nothing waits for it.
        self.threads = ThreadPoolExecutor(min(16, os.cpu_count() or 1))

    def drawn(self, rows: Sequence[int], draw: torch.Generator) -> Tensor:
        room = self.shrunk - self.size + 1
        places = torch.randint(room, (2, len(rows)), generator=draw).tolist()
        turns = torch.randint(8, (len(rows),), generator=draw).tolist()
        return torch.stack(list(self.threads.map(self.crop, rows, *places, turns)))

    def whole(self, rows: Sequence[int]) -> Tensor:
        images = self.threads.map(lambda row: self.pairs.image(row, self.size).copy(), rows)
        return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])

    def crop(self, row: int, top: int, left: int, symmetry: int) -> Tensor:
        """A crop of seven eighths of the side, turned where that leaves the caption true."""
        pixels = torch.from_numpy(self.pairs.image(row, self.shrunk).copy())
        crop = pixels.permute(2, 0, 1)[:, top : top + self.size, left : left + self.size]
        return turn(crop, symmetry if self.symmetric[row] else 0)


class Features:
    """Features (B, F) float32 of a frozen network, each with mean 0 and deviation 1 in training."""

    def __init__(
        self,
        pairs: Pairs,
        extractor: Extractor,
        train: Sequence[int],
        held_out: Sequence[int],
        folder: Path | None,
        session: Session,
    ) -> None:
        rows = [*train, *held_out]
        features = torch.from_numpy(cached_features(pairs, rows, extractor, folder, session))
        seen = features[: len(train)]
        mean, std = seen.mean(0), seen.std(0, unbiased=False)
        # what never changes says nothing, and would be rounding errors divided by almost nothing
        self.features = (features - mean) / std.where(std > 1e-6, torch.inf)
        self.place = torch.full((len(pairs),), -1)
        self.place[rows] = torch.arange(len(rows))

    @property
    def dims(self) -> int:
        """How many features an image has."""
        return self.features.shape[1]

    def drawn(self, rows: Sequence[int], draw: torch.Generator) -> Tensor:
        return self.whole(rows)

    def whole(self, rows: Sequence[int]) -> Tensor:
        return self.features[self.place[list(rows)]]


def cached_features(
    pairs: Pairs, rows: Sequence[int], extractor: Extractor, folder: Path | None, session: Session
) -> np.ndarray:
    """Features (len(rows), F) float32 of rows of a table; what lies in `folder` is not taken again.

    Blocks of images are the same in each run and are kept whole, so that a run that was stopped
    has the features of one that was not, to the bit. Of several processes, one takes them.
    Raises VesaliusError for a table without hashes and for images that cannot be read.
    """
    hashes = pairs.column("sha1")
    if not all(hashes[row] for row in rows):
        raise VesaliusError(
            "features are found by the image's hash, and the pairs table has rows without sha1: "
            "make the table with `vesalius pairs`"
        )
    first = {hashes[row]: row for row in reversed(rows)}  # of equal images the first
    keys = sorted(first)

    def work() -> TensorStore:
        store = open_features(folder, extractor.identity, keys, session.on_warning)
        with session.progress("features of images") as progress:
            _fill(pairs, first, keys, extractor, store, torch.device(session.device), progress)
        return store

    if world_size() > 1 and folder:
        on_first_rank(work)
    place = {key: k for k, key in enumerate(keys)}
    return features_of(work(), [place[hashes[row]] for row in rows])


def _fill(
    pairs: Pairs,
    row_of: dict[str, int],
    keys: list[str],
    extractor: Extractor,
    store: TensorStore,
    device: torch.device,
    progress: Callable[[float, int | None], None],
) -> None:
    """Put into `store` what it lacks of `keys`."""

    def load(key: str) -> np.ndarray:
        return extractor.view.prepare(np.asarray(open_rgb(pairs.encoded(row_of[key]))))

    whole, missing = range(len(keys)), set(store.missing())
    starts = range(0, len(keys), BLOCK)
    blocks = [block for k in starts if missing.intersection(block := whole[k : k + BLOCK])]
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        for number, block in enumerate(blocks):
            pixels = extractor.view.batch(list(threads.map(load, [keys[k] for k in block])), device)
            add_features(store, block, extractor(pixels))
            progress((number + 1) * BLOCK, len(blocks) * BLOCK)
    store.flush()
