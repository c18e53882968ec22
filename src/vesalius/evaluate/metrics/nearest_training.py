"""Synthetic images that are near to training images: in which spaces, how near, and how near is too near.

Each is compared with the whole training set, not only with the images of its prompt, in several
spaces: structure, as the guard does while generating; the 16-tile pixel distance of Carlini et al. 2023;
and whatever features are given. Real images that the model never saw say how near is too near: their
distances to the training set are those of honest new images, and what lies below a low quantile of them
deserves a look.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics import memorising
from vesalius.evaluate.metrics.memorising import CROWD, Comparison
from vesalius.evaluate.metrics.spaces import (
    Features,
    Space,
    check_features,
    feature_space,
    tile_space,
)
from vesalius.images.calibration import EVERY, Calibration, calibrate_index, nearest_of, some
from vesalius.images.duplicates import Duplicate, clusters, find_duplicates
from vesalius.images.image_set import ImageSet
from vesalius.images.nearness import (
    LEAST_HELD_OUT,
    Threshold,
    calibrate,
    crowding_ratio,
    neighbours,
)
from vesalius.images.training_index import REPEAT, ImageIndex, Nearest, Progress, open_index
from vesalius.statistics.share import Share
from vesalius.statistics.two_sample import PERMUTATIONS, Memorising, Tail

ALARM = 0.01  # of honest images that are called copies
_WITHIN = 500  # training images that are compared with those of other groups


@dataclass(frozen=True)
class Options:
    """How copies are looked for."""

    quantile: float = ALARM  # the rate of false alarms on honest images
    symmetries: Sequence[int] = (
        0,
    )  # of pixels, see `images.duplicates.turn`; structure: all eight
    permutations: int = PERMUTATIONS
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class SpaceCopies:
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
        crowded = None
        if self.crowding is not None:
            crowded = Share(int((self.crowding < 1).sum()), len(self.crowding)).as_dict()
        return {
            "space": self.space,
            "copies": self.share.as_dict(),
            "held_out": self.held_out.as_dict() if self.held_out else None,
            "thresholds": {name: each.as_dict() for name, each in self.thresholds.items()},
            "median_distance": float(np.median(self.distance)),
            "least_distance": float(self.distance.min()),
            "crowded_below_1": crowded,
            "memorising": asdict(self.memorising) if self.memorising else None,
            "tail": asdict(self.tail) if self.tail else None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Copies:
    """What the comparison with training images found; see `find_copies`."""

    spaces: dict[str, SpaceCopies]  # structure, tiles, then those of the features
    duplicates: list[Duplicate]  # pairs within the synthetic set, enough to connect all copies
    repeated: Share | None  # held-out images that are duplicates of training images
    n: int
    n_train: int
    n_held_out: int
    notes: Sequence[str]

    @property
    def duplicated(self) -> Share:
        """Synthetic images that are a copy of an earlier one of their set."""
        return Share(len(self.duplicates), self.n)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without rows of images."""
        groups = clusters(self.n, self.duplicates)
        largest = int(np.bincount(groups[groups >= 0]).max(initial=0))
        return {
            "n": self.n,
            "n_train": self.n_train,
            "n_held_out": self.n_held_out,
            "held_out_repeats": self.repeated.as_dict() if self.repeated else None,
            "spaces": {name: each.as_dict() for name, each in self.spaces.items()},
            "duplicates": self.duplicated.as_dict() | {"largest": largest},
            "notes": list(self.notes),
        }


def find_copies(
    synthetic: ImageSet,
    training: ImageSet,
    held_out: ImageSet,
    features: Features | None = None,
    options: Options | None = None,
    *,
    cache: Path | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Copies:
    """Compare every synthetic image with every training image, in each space.

    `features` gives (N, D), (M, D) and (H, D) of the three sets by the extractor's name; they are
    compared by angle. Small versions of all images are kept in `cache` (~/.cache/vesalius/bank).

    Raises VesaliusError for an empty set, an image that cannot be read, features of another number
    of images, and where pixels or features have no real image to calibrate on.
    """
    options = options or Options()
    if not len(synthetic) or not len(training):
        raise VesaliusError("copies need at least one synthetic and one training image")
    made, trained, held = (
        open_index(images, cache, on_progress=on_progress)
        for images in (synthetic, training, held_out)
    )
    check_features(features or {}, (made, trained, held))
    rows = some(len(held))
    near = nearest_of(trained, held, rows, on_progress=on_progress)
    repeated = near.distance[:, 0] <= REPEAT
    calibration = calibrate_index(trained, near, options.quantile)
    spaces = {"structure": _by_structure(made, trained, near, calibration)}
    some_held = held.part(rows)
    among = Comparison(
        trained, some_held, repeated, options.permutations, options.seed, options.device
    )
    every = [tile_space(made, trained, some_held, options.symmetries)]
    every += [feature_space(name, sets, rows) for name, sets in (features or {}).items()]
    for space in every:
        spaces[space.name] = _in_space(space, among, options.quantile)
    return Copies(
        spaces,
        _duplicates(made),
        Share(int(repeated.sum()), len(rows)) if len(rows) else None,
        len(made),
        len(trained),
        len(held),
        _notes(made, trained, held, rows, int(repeated.sum())),
    )


def _by_structure(
    synthetic: ImageIndex, training: ImageIndex, near: Nearest, calibration: Calibration
) -> SpaceCopies:
    """What the guard would say of the set: structure, in all eight symmetries, crops included.

    `near` is `nearest_of` the held-out images, which `calibration` comes from.
    """
    found = nearest_of(training, synthetic, np.arange(len(synthetic)))
    sources = np.array(training.sources)
    thresholds = calibration.thresholds
    limits = _limits(thresholds, sources[near.index[:, 0]])
    return SpaceCopies(
        space="structure",
        index=found.index[:, 0],
        distance=found.distance[:, 0],
        limit=_limits(thresholds, sources[found.index[:, 0]]),
        thresholds=thresholds,
        held_out=_called(near.distance[:, 0] <= limits, near.distance[:, 0] <= REPEAT),
    )


def _in_space(space: Space, among: Comparison, quantile: float) -> SpaceCopies:
    """The nearest training images in a space, thresholds, and the tests for memorising."""
    sources, repeated = np.array(among.training.sources), among.repeated
    near = neighbours(space.synthetic, space.training, CROWD, among.device)
    distances, kinds, real = np.empty(0), np.empty(0, str), None
    if len(among.held_out):
        real = neighbours(space.held_out, space.training, 1, among.device)
        distances, kinds = real.distance[:, 0], sources[real.index[:, 0]]
    thresholds, notes = _thresholds(
        distances[~repeated], kinds[~repeated], lambda: _within(space, among), quantile
    )
    share = ratio = tail = None
    if real:
        share = _called(distances <= _limits(thresholds, kinds), repeated)
        ratio, tail = memorising.test_space(space, near, real, among)
    return SpaceCopies(
        space=space.name,
        index=near.index[:, 0],
        distance=near.distance[:, 0],
        limit=_limits(thresholds, sources[near.index[:, 0]]),
        thresholds=thresholds,
        held_out=share,
        crowding=crowding_ratio(near.distance),
        memorising=ratio,
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
    distances: np.ndarray, kinds: np.ndarray, within: Callable[[], np.ndarray], quantile: float
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


def _within(space: Space, among: Comparison) -> np.ndarray:
    """Distances of some training images to the nearest of another group."""
    rows = some(len(among.training), _WITHIN)
    own = space.training[torch.from_numpy(rows)][None]
    near = neighbours(own, space.training, CROWD, among.device)
    groups = np.array(among.training.groups)
    apart = np.where(groups[near.index] != groups[rows, None], near.distance, np.inf).min(axis=1)
    return apart[np.isfinite(apart)]


def _duplicates(made: ImageIndex) -> list[Duplicate]:
    thumbs = made.look(range(len(made))).thumbs
    halved = thumbs.reshape(len(thumbs), 32, 2, 32, 2).mean(axis=(2, 4))
    return find_duplicates(
        np.rint(halved).astype(np.uint8), made.keys, pixels=lambda row: thumbs[row]
    )


def _notes(
    made: ImageIndex, trained: ImageIndex, held: ImageIndex, rows: np.ndarray, repeats: int
) -> list[str]:
    found = []
    if same := len(set(made.keys) & set(trained.keys)):
        found.append(f"{same} synthetic files are training images, byte for byte")
    if same := len(set(held.keys) & set(trained.keys)):
        found.append(f"{same} held-out files are training images, byte for byte")
    if same := len({g for g in held.groups if g} & set(trained.groups)):
        found.append(f"{same} groups have both training and held-out images")
    if repeats:
        found.append(
            f"{repeats} of {len(rows)} held-out images are duplicates of a training image: they are "
            "no new images, and what is said of held-out images here leaves them out"
        )
    if len(rows) < len(held):
        found.append(f"{len(rows)} of {len(held)} held-out images were compared, drawn at random")
    return found
