"""Images made small and kept on disk, and the nearest training images to any of them.

Two looks, neither of which needs a network's weights. The layout of colours on an 8 x 8 grid finds
eight candidates among all training images, in all eight symmetries of the square and at two zooms.
Then each is laid onto the image and their local structure is compared at 64 px: `distance` is one
minus `structure_similarity`, 0 for the same picture and near 1 for two that only look alike. Both
survive what a latent model does to an image that it has learnt by heart, which comes out through
an autoencoder. benchmarks/evaluate/planted_copies.py compares this with other ways.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vesalius.core.tensor_store import MappedRows, Tensors, keys_of, open_store
from vesalius.core.trained_on import digest_of
from vesalius.images.duplicates import ALIKE_PIXELS
from vesalius.images.image_set import ImageSet
from vesalius.images.nearness import Neighbours, neighbours, turned
from vesalius.images.pixels import open_rgb, square
from vesalius.images.similarity import structure_similarity

WHOLE, SIDE, GRID = 256, 64, 8  # pixels an image is read at and compared at; cells of its layout
MARGINS = (0, 2)  # pixels of SIDE left out around the layout: as of a copy that was cropped
CANDIDATES = 8
REPEAT = 1 - ALIKE_PIXELS  # up to this distance `vesalius pairs` calls two images duplicates
LAYOUT = GRID * GRID * 3
_MADE_WITH = {"bank": f"2: {WHOLE} {SIDE} {GRID} {MARGINS}"}
_BATCH, _THREADS = 256, 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Looks:
    """N images as they are compared."""

    layouts: np.ndarray  # (N, GRID, GRID, 3) float32: no mean, length one
    thumbs: np.ndarray  # (N, SIDE, SIDE) uint8, grey


@dataclass(frozen=True)
class Nearest:
    """For each image its nearest training images, nearest first."""

    index: np.ndarray  # (N, k) int64, rows of the index
    distance: np.ndarray  # (N, k) float32; infinite where there were fewer than k
    symmetry: (
        np.ndarray
    )  # (N, k) int64, how the image was turned (see `duplicates.turn`) to be nearest
    layout: np.ndarray  # (N,) float32, distance of layouts to the nearest of all, 0 to 2


@dataclass(frozen=True)
class ImageIndex:
    """Images, small: 6 KB each on disk, read when needed, and 1.5 KB in memory."""

    keys: list[str]  # sha1 of each image
    sources: list[str]
    groups: list[str]
    thumbs: MappedRows  # (M, SIDE, SIDE) uint8, grey
    layouts: torch.Tensor  # (margins M, 1, LAYOUT) float32, all of the first margin first
    traits: np.ndarray  # (M, 4) float32, see `traits`

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """A hash of which images these are, whatever their order."""
        return digest_of(self.keys)[:16]

    def look(self, rows: Sequence[int] | np.ndarray) -> Looks:
        """Some of the set's own images, for a comparison with it or another."""
        index = torch.as_tensor(np.asarray(rows, np.int64))
        layouts = self.layouts[index.to(self.layouts.device)].cpu().numpy()
        return Looks(layouts.reshape(-1, GRID, GRID, 3), self.thumbs[index].numpy())

    def part(self, rows: np.ndarray) -> "ImageIndex":
        """The index of some of the images."""
        index = torch.from_numpy(rows)
        layouts = self.layouts.unflatten(0, (len(MARGINS), len(self)))[:, index].flatten(0, 1)
        keys, sources, groups = (
            [names[row] for row in rows] for names in (self.keys, self.sources, self.groups)
        )
        thumbs = MappedRows(self.thumbs.shards, self.thumbs.shard[index], self.thumbs.offset[index])
        return ImageIndex(keys, sources, groups, thumbs, layouts, self.traits[rows])

    def nearest(
        self, looks: Looks, k: int = CANDIDATES, without: Sequence[str] | None = None
    ) -> Nearest:
        """The k candidates for each image, by structure.

        `without` names a group for each image whose training images do not count: for images that
        are in the index themselves.
        """
        count = len(looks.thumbs)
        found = self._candidates(looks, k if without is None else 8 * k)
        greys = turned(looks.thumbs)  # (8, N, SIDE, SIDE)
        nearest = Nearest(
            np.zeros((count, k), np.int64),
            np.full((count, k), np.inf, np.float32),
            np.zeros((count, k), np.int64),
            found.distance[:, 0],
        )
        for n, (places, views) in enumerate(zip(found.index, found.view, strict=True)):
            margins, rows = np.divmod(places, len(self))
            chosen = np.sort(np.unique(rows, return_index=True)[1])  # a row is there once a margin
            if without is not None:
                chosen = np.array([c for c in chosen if self.groups[rows[c]] != without[n]], int)
            rows, views, margins = (each[chosen[:k]] for each in (rows, views, margins))
            theirs = self.thumbs[torch.from_numpy(rows)].numpy().astype(np.float32)
            theirs = _ZOOMS[margins] @ theirs @ _ZOOMS[margins].swapaxes(1, 2)
            apart = np.maximum(1 - structure_similarity(greys[views, n], theirs), 0)
            order = np.argsort(apart, kind="stable")
            nearest.index[n, : len(order)] = rows[order]
            nearest.distance[n, : len(order)] = apart[order]
            nearest.symmetry[n, : len(order)] = views[order]
        return nearest

    def _candidates(self, looks: Looks, k: int) -> Neighbours:
        """Places in `layouts` that are nearest; a row has one a margin, so k are asked of each."""
        views = turned(looks.layouts).reshape(8, -1, 1, LAYOUT)
        found = neighbours(views, self.layouts, k * len(MARGINS), str(self.layouts.device))
        return Neighbours(found.index, found.distance * LAYOUT**0.5, found.view)


def open_index(
    images: ImageSet,
    cache: Path | None = None,
    device: str = "cpu",
    on_progress: Progress = lambda done, total: None,
) -> ImageIndex:
    """The index of these images; those that `cache` (~/.cache/vesalius/bank) lacks are read.

    Raises VesaliusError where an image cannot be read or the cache cannot be written.
    """
    keys = [
        sha1 or hashlib.sha1(images.encoded(row), usedforsecurity=False).hexdigest()
        for row, sha1 in enumerate(images.column("sha1"))
    ]
    sources, groups = images.column("source"), images.column("group")
    store = open_store(cache or default_cache(), _MADE_WITH, keys_of(keys))

    def encode(positions: list[int]) -> Tensors:
        with ThreadPoolExecutor(_THREADS) as pool:
            read = list(
                pool.map(lambda row: square(open_rgb(images.encoded(row)), WHOLE), positions)
            )
        small = [_small(image) for image in read]
        found = {
            "thumb": np.stack([_grey(image) for image in small]),
            "layout": np.stack([_layouts(np.stack(small), m) for m in MARGINS], 1),
            "traits": np.stack([traits(image) for image in read]),
        }
        return {name: torch.from_numpy(array) for name, array in found.items()}

    store.fill(encode, _BATCH, progress=on_progress)
    every = torch.arange(len(keys))
    if not keys:
        thumbs = MappedRows((torch.empty((0, SIDE, SIDE), dtype=torch.uint8),), every, every)
        return ImageIndex(
            keys, sources, groups, thumbs, torch.empty((0, 1, LAYOUT)), np.empty((0, 4))
        )
    layouts = torch.empty((len(MARGINS), len(keys), 1, LAYOUT))
    for part in every.split(4096):
        layouts[:, part, 0] = store.rows("layout")[part].transpose(0, 1).flatten(2)
    found = store.rows("traits")[every].numpy()
    return ImageIndex(
        keys, sources, groups, store.rows("thumb"), layouts.flatten(0, 1).to(device), found
    )


def default_cache() -> Path:
    """Where indices are kept unless the caller says otherwise."""
    return Path.home() / ".cache" / "vesalius" / "bank"


def look(images: Sequence[np.ndarray]) -> Looks:
    """Images of any sizes, uint8 (H, W, 3), as they are compared."""
    small = np.stack([_small(whole(image)) for image in images])
    return Looks(_layouts(small, 0), _grey(small))


def whole(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of any size as (WHOLE, WHOLE, 3), as training images are read."""
    return image if image.shape[:2] == (WHOLE,) * 2 else square(Image.fromarray(image), WHOLE)


def _small(image: np.ndarray) -> np.ndarray:
    """uint8 (WHOLE, WHOLE, 3) -> (SIDE, SIDE, 3)."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))


def _grey(images: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) uint8, by the weights of ITU-R 601."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(images.astype(np.float32) @ weights).astype(np.uint8)


def _layouts(images: np.ndarray, margin: int) -> np.ndarray:
    """Mean colours of (N, SIDE, SIDE, 3) images on a grid inside the margin: (N, GRID, GRID, 3).

    Without their mean and scaled to length one: overall brightness and contrast are left out.
    """
    edges = np.linspace(margin, SIDE - margin, GRID + 1)[:, None]
    pixels = np.arange(SIDE)
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    boxes = (np.maximum(covered, 0) / (edges[1:] - edges[:-1])).astype(np.float32)  # (GRID, SIDE)
    # one image a product: the last bits of an image must not depend on which others come with it
    rows = boxes @ images.astype(np.float32).reshape(len(images), SIDE, -1)  # (N, GRID, SIDE * 3)
    grid = boxes @ rows.reshape(len(images), GRID, SIDE, -1)  # (N, GRID, GRID, 3)
    grid -= grid.mean(axis=(1, 2, 3), keepdims=True)
    norm = np.sqrt(np.square(grid).sum(axis=(1, 2, 3), keepdims=True))
    return grid / np.maximum(norm, 1e-6)


def _zoom(margin: int) -> np.ndarray:
    """(SIDE, SIDE) matrix that stretches what lies inside the margin over a whole line."""
    places = margin - 0.5 + (np.arange(SIDE) + 0.5) * (1 - 2 * margin / SIDE)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(SIDE)), 0).astype(np.float32)


_ZOOMS = np.stack([_zoom(margin) for margin in MARGINS])  # (margins, SIDE, SIDE)


def traits(image: np.ndarray) -> np.ndarray:
    """What distinguishes a blank or broken image from a real one: (4,) float32 of (WHOLE, WHOLE, 3) uint8.

    Contrast (standard deviation of grey, in levels), colour (mean range of the channels, in levels)
    and roughness, which is the mean difference of neighbouring pixels over their deviation and about
    1.1 for static: of the pixels, and of means over 8 x 8, which is static that was decoded.
    """
    levels = _grey(image).astype(np.float32)
    blocks = levels.reshape(WHOLE // 8, 8, WHOLE // 8, 8).mean(axis=(1, 3))
    colour = (image.max(axis=2).astype(np.int16) - image.min(axis=2)).mean()
    return np.array([levels.std(), colour, _roughness(levels), _roughness(blocks)], np.float32)


def _roughness(levels: np.ndarray) -> float:
    steps = np.abs(np.diff(levels, axis=0)).mean() + np.abs(np.diff(levels, axis=1)).mean()
    return float(steps / 2 / max(levels.std(), 1))
