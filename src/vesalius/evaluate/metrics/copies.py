"""Copies of training images in a synthetic set, in one space: structure, pixels, or features.

In each the nearest of ALL training images is found for each synthetic image. How near is too near is
told by real images that were held out, for each source, and how many of a set are nearer than that
is given with its interval, beside the same figure of the held-out images themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vesalius.errors import VesaliusError
from vesalius.images.calibration import EVERY, Calibration, nearest_of, some
from vesalius.images.nearness import (
    LEAST_HELD_OUT,
    Neighbours,
    Threshold,
    as_tiles,
    calibrate,
    crowding_ratio,
    neighbours,
)
from vesalius.images.training_index import REPEAT, SIDE, ImageIndex, Nearest
from vesalius.statistics.two_sample import Memorising, Tail, log_ratio, memorising_test, tail_test

CROWD = 50  # neighbours: Carlini et al. 2023
_WITHIN = 500  # training images that are compared with those of other groups


@dataclass(frozen=True)
class Share:
    """`count` of `n` images, and the 95 % interval of the rate (Wilson 1927)."""

    count: int
    n: int

    @property
    def value(self) -> float:
        """The rate."""
        return self.count / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high."""
        z = 1.959964
        centre = (self.count + z * z / 2) / (self.n + z * z)
        half = z / (self.n + z * z) * sqrt(self.count * (1 - self.value) + z * z / 4)
        return max(0.0, centre - half), min(1.0, centre + half)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.interval
        return {**asdict(self), "value": self.value, "low": low, "high": high}


@dataclass(frozen=True)
class Copies:
    """What was found in one space; arrays have a row for each of the N synthetic images."""

    space: str
    index: np.ndarray  # (N,) nearest training image
    distance: np.ndarray  # (N,)
    limit: np.ndarray  # (N,) up to which distance it is a copy
    thresholds: Mapping[str, Threshold]  # by source of the nearest training image
    held_out: Share | None  # of held-out images, repeats left out, that would be called copies
    crowding: np.ndarray | None = None  # (N,) see `nearness.crowding_ratio`
    memorising: Memorising | None = None
    tail: Tail | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def flagged(self) -> np.ndarray:
        """(N,) bool."""
        return self.distance <= self.limit

    @property
    def share(self) -> Share:
        """Of the synthetic images, those that are copies."""
        return Share(int(self.flagged.sum()), len(self.distance))

    def closest(self, count: int) -> list[tuple[int, int]]:
        """(synthetic, training) rows of the pairs nearest to each other for their source."""
        order = np.argsort(self.distance / self.limit, kind="stable")[:count]
        return [(int(n), int(self.index[n])) for n in order]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the rows."""
        return {
            "space": self.space,
            "copies": self.share.as_dict(),
            "held_out": self.held_out.as_dict() if self.held_out else None,
            "thresholds": {name: each.as_dict() for name, each in self.thresholds.items()},
            "median_distance": float(np.median(self.distance)),
            "least_distance": float(self.distance.min()),
            "crowded_below_1": None
            if self.crowding is None
            else Share(int((self.crowding < 1).sum()), len(self.crowding)).as_dict(),
            "memorising": asdict(self.memorising) if self.memorising else None,
            "tail": asdict(self.tail) if self.tail else None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Space:
    """How images are compared: (V, N, T, D) views of some to (M, T, D) rows, by `tile_distance`."""

    name: str
    synthetic: np.ndarray
    training: Any  # nearness.Rows
    held_out: np.ndarray


class TileRows:
    """The thumbs of a bank as tiles of pixels in [0, 1], cut when they are asked for."""

    def __init__(self, bank: ImageIndex) -> None:
        self.thumbs = bank.thumbs

    def __len__(self) -> int:
        return len(self.thumbs)

    def __getitem__(self, rows: Any) -> Tensor:
        """(..., 16, D) for a slice or an index tensor (...)."""
        index = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows
        tiles = as_tiles(self.thumbs[index.flatten()].numpy().reshape(*index.shape, SIDE, SIDE, 1))
        return torch.from_numpy(tiles)


def find_copies(
    space: Space,
    training: ImageIndex,
    held_out: ImageIndex,
    repeated: np.ndarray,
    *,
    quantile: float = 0.01,
    device: str = "cpu",
    **test: Any,
) -> Copies:
    """The nearest training images in a space, thresholds, and the test for memorising.

    The banks name sources and groups of the rows of `space`; `repeated` (H,) are held-out images
    that are duplicates of training ones, which calibrate nothing. `test` goes to `memorising_test`.
    """
    sources = np.array(training.sources)
    near = neighbours(space.synthetic, space.training, CROWD, device)
    real = neighbours(space.held_out, space.training, 1, device) if len(held_out) else None
    distances = real.distance[:, 0] if real else np.empty(0)
    kinds = sources[real.index[:, 0]] if real else np.empty(0, str)
    thresholds, notes = _thresholds(
        distances[~repeated], kinds[~repeated], lambda: _within(space, training, device), quantile
    )
    share = None
    if real:
        limits = _limits(thresholds, kinds)
        share = _called(distances <= limits, repeated)
    memorising = tail = None
    if real:
        new = neighbours(space.synthetic, space.held_out[0], CROWD, device)
        memorising = _memorising(near, new, training, held_out, test)
        tail = _tail(space, near, new, real, (training, held_out, repeated), device, test)
    return Copies(
        space=space.name,
        index=near.index[:, 0],
        distance=near.distance[:, 0],
        limit=_limits(thresholds, sources[near.index[:, 0]]),
        thresholds=thresholds,
        held_out=share,
        crowding=crowding_ratio(near.distance),
        memorising=memorising,
        tail=tail,
        notes=notes,
    )


def _called(flagged: np.ndarray, repeated: np.ndarray) -> Share | None:
    """Of the held-out images that repeat no training image, those that are flagged.

    One that does is no new image: with them a leaky split would excuse a set of copies.
    """
    honest = ~repeated
    return Share(int((flagged & honest).sum()), int(honest.sum())) if honest.any() else None


def _limits(thresholds: Mapping[str, Threshold], kinds: np.ndarray) -> np.ndarray:
    return np.array([thresholds.get(kind, thresholds[EVERY]).value for kind in kinds])


def _thresholds(
    distances: np.ndarray, kinds: np.ndarray, within: Any, quantile: float
) -> tuple[dict[str, Threshold], list[str]]:
    """By source where it has 100 held-out images; EVERY of all, with training ones if too few."""
    notes, on = [], "held-out images"
    found = {
        str(kind): calibrate(distances[kinds == kind], quantile)
        for kind in np.unique(kinds)
        if np.count_nonzero(kinds == kind) >= LEAST_HELD_OUT
    }
    if len(distances) < LEAST_HELD_OUT:
        own = within()
        on = f"{len(distances)} held-out images, and {len(own)} of training against other groups"
        notes.append(f"calibrated on {on}: {LEAST_HELD_OUT} held-out ones are needed")
        distances = np.concatenate([distances, own])
    if not len(distances):
        raise VesaliusError(
            "there is no real image to calibrate copies on: give held-out images, or groups"
        )
    return {**found, EVERY: calibrate(distances, quantile, on)}, notes


def _within(space: Space, training: ImageIndex, device: str) -> np.ndarray:
    """Distances of some training images to the nearest of another group."""
    rows = some(len(training), _WITHIN)
    near = neighbours(space.training[torch.from_numpy(rows)][None], space.training, CROWD, device)
    groups = np.array(training.groups)
    apart = np.where(groups[near.index] != groups[rows, None], near.distance, np.inf).min(axis=1)
    return apart[np.isfinite(apart)]


def _memorising(
    near: Neighbours,
    new: Neighbours,
    training: ImageIndex,
    held_out: ImageIndex,
    test: dict[str, Any],
) -> Memorising:
    """The nearest of training and held-out images together, and the test on them."""
    index = np.concatenate([near.index, new.index + len(training)], axis=1)
    distance = np.concatenate([near.distance, new.distance], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    is_held_out = np.arange(len(training) + len(held_out)) >= len(training)
    return memorising_test(
        np.take_along_axis(index, order, 1),
        np.take_along_axis(distance, order, 1),
        is_held_out,
        groups=[*training.groups, *held_out.groups],
        strata=[*training.sources, *held_out.sources],
        **test,
    )


def _tail(
    space: Space,
    near: Neighbours,
    new: Neighbours,
    real: Neighbours,
    banks: tuple[ImageIndex, ImageIndex, np.ndarray],
    device: str,
    test: dict[str, Any],
) -> Tail | None:
    """How lopsided synthetic images are, beside held-out ones that repeat no training image."""
    training, held_out, repeated = banks
    others = neighbours(space.held_out, space.held_out[0], CROWD, device)
    groups, sources = np.array(held_out.groups), np.array(training.sources)
    apart = others.index != np.arange(len(held_out))[:, None]
    apart &= (groups[others.index] != groups[:, None]) | (groups[others.index] == "")
    away = np.where(apart, others.distance, np.inf).min(axis=1)
    honest = np.isfinite(away) & ~repeated
    return tail_test(
        log_ratio(near.distance[:, 0], new.distance[:, 0]),
        log_ratio(real.distance[honest, 0], away[honest]),
        (sources[near.index[:, 0]].tolist(), sources[real.index[honest, 0]].tolist()),
        **test,
    )


def structure_copies(
    synthetic: ImageIndex, training: ImageIndex, near: Nearest, calibration: Calibration
) -> Copies:
    """What the guard would say of the set: structure, in all eight symmetries, crops included.

    `near` is `nearest_of` the held-out images, which `calibration` comes from.
    """
    found = nearest_of(training, synthetic, np.arange(len(synthetic)))
    sources = np.array(training.sources)
    thresholds = calibration.thresholds
    limits = _limits(thresholds, sources[near.index[:, 0]])
    return Copies(
        space="structure",
        index=found.index[:, 0],
        distance=found.distance[:, 0],
        limit=_limits(thresholds, sources[found.index[:, 0]]),
        thresholds=thresholds,
        held_out=_called(near.distance[:, 0] <= limits, near.distance[:, 0] <= REPEAT),
    )
