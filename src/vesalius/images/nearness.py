"""How near images are to the training set, and how near is too near.

Every query is compared with every training image: `neighbours` is exact, in blocks of bounded
memory. Distances are Euclidean, over features (one tile) or over the tiles of pixels, where the
distance of two images is that of their most different tile (Carlini et al. 2023, arXiv:2301.13188):
two patients that share most of a picture, such as a black background, still differ.

How near is too near is learnt from real images that were not trained on: `calibrate` takes the distance
that only a small fraction of them falls below.
"""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from vesalius.images.duplicates import turn

TILES = 4  # a side
LEAST_HELD_OUT = 100  # images; a quantile of 1 % means nothing for fewer
SAME = 1e-3  # a distance that is rounding: never a new image
_SLACK = 8  # more than asked for, as the products that choose them are rounded
_BLOCK = 2**22  # distances that are held at once
_HELD = 2**24  # numbers of the training set that are, 64 MB
_QUERIES = 64  # in a block


class Rows(Protocol):
    """(M, T, D) numbers that need not be in memory; a Tensor is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Tensor:
        """Those of a slice, or of an index tensor of any shape."""
        ...


@dataclass(frozen=True)
class Neighbours:
    """For each query its nearest training rows, nearest first."""

    index: np.ndarray  # (N, k) int64
    distance: np.ndarray  # (N, k) float32
    view: np.ndarray  # (N, k) int64, which view of the query came nearest


@dataclass(frozen=True)
class Threshold:
    """Distances up to `value` are those of a copy.

    `quantile` is the rate of false alarms that was asked for, `low` and `high` the 95 % interval of
    the rate that `value` has on new real images of the kind it was calibrated on, `n` how many
    those were, and `on` says which.
    """

    value: float
    quantile: float
    n: int
    low: float
    high: float
    on: str = "held-out images"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def turned(images: np.ndarray) -> np.ndarray:
    """(N, S, S) or (N, S, S, C) images in the eight symmetries of the square: (8, N, ...)."""
    grey = images[..., None] if images.ndim == 3 else images
    planes = np.moveaxis(grey, -1, 1)  # (N, C, S, S)
    views = np.stack([np.moveaxis(turn(planes, s), 1, -1) for s in range(8)])
    return views[..., 0] if images.ndim == 3 else views


def as_tiles(images: np.ndarray, side: int = TILES) -> np.ndarray:
    """(..., S, S, C) uint8, or (..., S, S), as (..., side^2, D) float32 in [0, 1].

    S is a multiple of `side`. Pixels are floats before anything is subtracted: bytes wrap around.
    """
    if images.shape[-1] not in (1, 3):
        images = images[..., None]
    *first, size, _, channels = images.shape
    if size % side:
        raise ValueError(f"images of {size} px are not cut into {side} x {side} tiles")
    step = size // side
    cut = images.reshape(*first, side, step, side, step, channels)
    cut = np.moveaxis(cut, -4, -3)  # (..., side, side, step, step, C)
    return cut.reshape(*first, side * side, step * step * channels).astype(np.float32) / 255


def tile_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Max over tiles of l2 / sqrt(D): (..., T, D) and (..., T, D) -> (...), 0 to 1 for pixels."""
    return np.sqrt(np.square(a - b).mean(axis=-1)).max(axis=-1)


@torch.inference_mode()
def neighbours(
    views: np.ndarray | Tensor, training: np.ndarray | Rows, k: int, device: str = "cpu"
) -> Neighbours:
    """The k nearest of all rows of `training`, for each query in that of its views which is nearest.

    `views` is (V, N, T, D): V ways of seeing the same N queries (mirrored, say; one is enough);
    `training` is (M, T, D), M at least 1. The distance of two rows is `tile_distance`. Features are one
    tile: (V, N, 1, D). k is cut to M. All M rows are compared, at most 2^22
    distances and 2^24 numbers of the training set at a time.
    """
    queries = torch.as_tensor(views)
    rows: Rows = torch.as_tensor(training) if isinstance(training, np.ndarray) else training
    k = min(k, len(rows))
    found = [
        _block_neighbours(queries[:, start:stop].to(device), rows, k)
        for start, stop in _spans(max(1, queries.shape[1]), _QUERIES)
    ]
    index, distance, view = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return Neighbours(index, distance, view)


def _block_neighbours(queries: Tensor, training: Rows, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index, distance and view, all (n, k), of a few queries (V, n, T, D)."""
    views, n, tiles, width = queries.shape
    wanted = min(k + _SLACK, len(training))
    best = queries.new_full((n, 0), 0.0)
    index = torch.empty((n, 0), dtype=torch.int64, device=queries.device)
    flat = queries.float().flatten(0, 1)  # (V n, T, D)
    own = flat.square().sum(-1)  # (V n, T)
    step = max(1, min(_BLOCK // max(1, views * n), _HELD // (tiles * width)))
    for start, stop in _spans(len(training), step):
        block = training[start:stop].to(queries.device).float()
        worst = queries.new_full((views * n, len(block)), 0.0)
        for tile in range(tiles):
            product = flat[:, tile] @ block[:, tile].T
            square = own[:, tile, None] + block[:, tile].square().sum(-1) - 2 * product
            torch.maximum(worst, square, out=worst)
        nearest = worst.view(views, n, len(block)).amin(0)
        best = torch.cat([best, nearest], 1)
        here = torch.arange(start, stop, device=queries.device).expand(n, -1)
        index = torch.cat([index, here], 1)
        best, places = best.topk(min(wanted, best.shape[1]), largest=False)
        index = index.gather(1, places)
    # The products are rounded by more than a copy differs: those few are compared once more.
    index = index.sort(1).values  # of equally near ones the first in the table
    chosen = training[index.cpu()].to(queries.device).float()  # (n, wanted, T, D)
    exact = torch.stack(
        [(view.float()[:, None] - chosen).square().mean(-1).amax(-1).sqrt() for view in queries]
    )  # (V, n, wanted)
    distance, view = exact.min(0)
    order = distance.sort(dim=1, stable=True).indices[:, :k]
    return index.gather(1, order), distance.gather(1, order), view.gather(1, order)


def _spans(count: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, count)) for start in range(0, count, step)]


def crowding_ratio(distance: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Distances (N, k) to the k nearest -> (N,): the nearest over `alpha` x the mean of all k.

    Carlini et al. 2023 with k = 50: below 1 a query is far nearer to one training image than that
    part of the training set is dense, and so a copy rather than one of many alike.
    """
    mean = distance.mean(axis=1)
    return distance[:, 0] / np.maximum(alpha * mean, 1e-12)


def calibrate(
    distances: np.ndarray, quantile: float = 0.01, on: str = "held-out images", least: float = SAME
) -> Threshold:
    """The distance up to which, on average over calibration sets, `quantile` of real images fall.

    `distances` (n,), n at least 1, are those of real images to their nearest training image. With
    the r-th smallest of them as threshold the rate on new images follows Beta(r, n + 1 - r),
    whatever the distances are like; r = quantile x (n + 1), at least 1. `value` is never below
    `least`, so that a training image itself is always found.
    """
    n = len(distances)
    rank = min(n, max(1, round(quantile * (n + 1))))
    value = max(float(np.sort(distances)[rank - 1]), least)
    low, high = (float(betaincinv(rank, n + 1 - rank, p)) for p in (0.025, 0.975))
    return Threshold(value, quantile, n, low, high, on)
