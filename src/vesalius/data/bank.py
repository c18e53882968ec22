"""The training images of a model, made small and kept on disk, and the nearest of them to an image.

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

from vesalius.data.dedupe import ALIKE_PIXELS
from vesalius.data.nearness import Neighbours, neighbours, turned
from vesalius.data.pairs import Pairs
from vesalius.data.shards import MappedRows, Tensors, keys_of, open_store
from vesalius.data.similarity import structure_similarity
from vesalius.io.pixels import square

WHOLE, SIDE, GRID = 256, 64, 8  # pixels an image is read at and compared at; cells of its layout
MARGINS = (0, 2)  # pixels of SIDE left out around the layout: of a copy that was cropped, too
CANDIDATES = 8
REPEAT = 1 - ALIKE_PIXELS  # up to this distance `vesalius pairs` calls two images duplicates
LAYOUT = GRID * GRID * 3
_MADE_WITH = {"bank": f"1: {WHOLE} {SIDE} {GRID} {MARGINS}"}
_BATCH = 256  # images

Progress = Callable[[int, int], None]


def _zoom(margin: int) -> np.ndarray:
    """(SIDE, SIDE) matrix that stretches what lies inside the margin over a whole line."""
    places = margin - 0.5 + (np.arange(SIDE) + 0.5) * (1 - 2 * margin / SIDE)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(SIDE)), 0).astype(np.float32)


_ZOOMS = np.stack([_zoom(margin) for margin in MARGINS])


@dataclass(frozen=True)
class Nearest:
    """For each image its nearest training images, nearest first."""

    index: np.ndarray  # (N, k) int64, rows of the bank
    distance: np.ndarray  # (N, k) float32; infinite where there were fewer than k
    symmetry: np.ndarray  # (N, k) int64, how the image was turned (see `dedupe.turn`) to be nearest
    layout: np.ndarray  # (N,) float32, distance of layouts to the nearest of all, 0 to 2


@dataclass(frozen=True)
class Bank:
    """Training images, small: 4 KB each on disk, read when needed, and 1.5 KB in memory."""

    rows: Sequence[int]  # of the pairs table
    keys: list[str]  # sha1 of each image
    sources: list[str]
    groups: list[str]
    thumbs: MappedRows  # (M, SIDE, SIDE) uint8, grey
    layouts: (
        torch.Tensor
    )  # (margins M, 1, LAYOUT) float32, length one; all of the first margin first
    traits: np.ndarray  # (M, 3) float32, see `traits`

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """A hash of which images these are, whatever their order."""
        return hashlib.sha256("\n".join(sorted(self.keys)).encode()).hexdigest()[:16]

    def nearest(
        self, images: np.ndarray, k: int = CANDIDATES, *, without: Sequence[str] | None = None
    ) -> Nearest:
        """The k candidates for each of (N, SIDE, SIDE, 3) uint8 images, by structure.

        `without` names a group for each image whose training images do not count: for images that
        are in the bank themselves.
        """
        found = self._candidates(images, k if without is None else 8 * k)
        greys = turned(grey(images))  # (8, N, SIDE, SIDE)
        nearest = Nearest(
            np.zeros((len(images), k), np.int64),
            np.full((len(images), k), np.inf, np.float32),
            np.zeros((len(images), k), np.int64),
            found.distance[:, 0],
        )
        for n, (places, views) in enumerate(zip(found.index, found.view, strict=True)):
            margins, rows = np.divmod(places, len(self))
            places = np.sort(np.unique(rows, return_index=True)[1])  # a row is there once a margin
            if without is not None:
                places = np.array([p for p in places if self.groups[rows[p]] != without[n]], int)
            rows, views, margins = (each[places[:k]] for each in (rows, views, margins))
            theirs = self.thumbs[torch.from_numpy(rows)].numpy().astype(np.float32)
            theirs = _ZOOMS[margins] @ theirs @ _ZOOMS[margins].swapaxes(1, 2)
            apart = np.maximum(1 - structure_similarity(greys[views, n], theirs), 0)
            order = np.argsort(apart, kind="stable")
            nearest.index[n, : len(order)] = rows[order]
            nearest.distance[n, : len(order)] = apart[order]
            nearest.symmetry[n, : len(order)] = views[order]
        return nearest

    def _candidates(self, images: np.ndarray, k: int) -> Neighbours:
        """Places in `layouts` that are nearest; a row has one a margin, so k are asked of each."""
        views = turned(layout_grid(images, 0)).reshape(8, len(images), 1, LAYOUT)
        # unit vectors: times sqrt(D), as distances of tiles are means over D
        found = neighbours(unit(views), self.layouts, k * len(MARGINS), str(self.layouts.device))
        return Neighbours(found.index, found.distance * LAYOUT**0.5, found.view)


def open_bank(
    pairs: Pairs,
    rows: Sequence[int],
    cache: Path,
    device: str = "cpu",
    on_progress: Progress = lambda done, total: None,
) -> Bank:
    """The bank of these rows of a pairs table; images that `cache` has not yet are read.

    Raises VesaliusError where an image cannot be read or the cache cannot be written.
    """
    columns = [pairs.column(name) for name in ("sha1", "source", "group")]
    keys, sources, groups = ([column[row] for row in rows] for column in columns)
    store = open_store(cache / "bank", _MADE_WITH, keys_of(keys))

    def encode(positions: list[int]) -> Tensors:
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(lambda p: pairs.image(rows[p], WHOLE), positions))
        some = np.stack([small(image) for image in images])
        layouts = np.stack([unit(layout_grid(some, m).reshape(len(some), -1)) for m in MARGINS], 1)
        found = {"thumb": grey(some), "layout": layouts, "traits": np.stack([*map(traits, images)])}
        return {name: torch.from_numpy(array) for name, array in found.items()}

    store.fill(encode, _BATCH, progress=on_progress)
    layouts, every = store.rows("layout"), torch.arange(len(rows))
    held = torch.empty((len(MARGINS), len(rows), 1, LAYOUT))
    for part in every.split(4096):
        held[:, part, 0] = layouts[part].transpose(0, 1)
    return Bank(
        rows, keys, sources, groups, store.rows("thumb"), held.flatten(0, 1).to(device),
        store.rows("traits")[every].numpy(),
    )  # fmt: skip


def whole(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of any size as (WHOLE, WHOLE, 3), as training images are read."""
    return square(Image.fromarray(image), WHOLE)


def small(image: np.ndarray) -> np.ndarray:
    """uint8 (WHOLE, WHOLE, 3) -> (SIDE, SIDE, 3)."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))


def grey(images: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) uint8, by the weights of ITU-R 601."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(images.astype(np.float32) @ weights).astype(np.uint8)


def layout_grid(images: np.ndarray, margin: int) -> np.ndarray:
    """Mean colours of (N, SIDE, SIDE, 3) images on a grid inside the margin: (N, GRID, GRID, 3)."""
    edges = np.linspace(margin, SIDE - margin, GRID + 1)[:, None]
    pixels = np.arange(SIDE)
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    boxes = (np.maximum(covered, 0) / (edges[1:] - edges[:-1])).astype(np.float32)  # (GRID, SIDE)
    rows = np.einsum("gh,nhwc->ngwc", boxes, images.astype(np.float32), optimize=True)
    return np.einsum("kw,ngwc->ngkc", boxes, rows, optimize=True)


def unit(layouts: np.ndarray) -> np.ndarray:
    """(..., LAYOUT) without their mean and scaled to length one: brightness and contrast are out."""
    centred = layouts - layouts.mean(axis=-1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)


def traits(image: np.ndarray) -> np.ndarray:
    """What tells a blank or a broken image from a real one: (3,) float32 of (H, W, 3) uint8.

    Contrast (standard deviation of grey, in levels), roughness (mean difference of neighbouring
    pixels, over the contrast: about 1.1 for static) and colour (mean range of the channels).
    """
    levels = grey(image).astype(np.int16)
    contrast = levels.std()
    steps = np.abs(np.diff(levels, axis=0)).mean() + np.abs(np.diff(levels, axis=1)).mean()
    colour = (image.max(axis=2).astype(np.int16) - image.min(axis=2)).mean()
    return np.array([contrast, steps / 2 / max(contrast, 1), colour], np.float32)
