"""What real images that were not trained on say: how near an honest new image comes to a bank.

Each source has a threshold of its own, for images whose nearest training image is of that source:
blood cells never come as near to one another as slices of one scan do, and a threshold for all
would be blind to copies of the former. A held-out image that `vesalius pairs` would call a
duplicate of a training image is no new image, and says nothing about them: it is left out, counted,
and no threshold lies below that of a duplicate.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vesalius.data.bank import REPEAT, WHOLE, Bank, small
from vesalius.data.nearness import LEAST_HELD_OUT, Threshold, calibrate
from vesalius.data.pairs import Pairs
from vesalius.errors import VesaliusError

EVERY = ""  # the source whose threshold serves those that have none of their own
FARTHEST = 2.0  # no two layouts are farther apart
MOST = 2000  # held-out images that are looked at
_WITHIN = 300  # training images of a source that are compared with those of other groups
_BATCH = 32


@dataclass(frozen=True)
class Calibration:
    """Thresholds by source, EVERY for all others, and what they were taken from."""

    thresholds: dict[str, Threshold]
    held_out: int  # images compared
    repeats: dict[str, int]  # by source, those of them that are duplicates of a training image
    farthest: float  # the largest distance, by layout, of a real image from its nearest

    def threshold(self, source: str) -> Threshold:
        """That for images whose nearest training image is of `source`."""
        return self.thresholds.get(source, self.thresholds[EVERY])

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, read: dict[str, Any]) -> "Calibration":
        """Raises TypeError or KeyError where it is something else."""
        thresholds = {name: Threshold(**each) for name, each in read["thresholds"].items()}
        return cls(**{**read, "thresholds": thresholds})


def calibrate_bank(
    bank: Bank,
    pairs: Pairs,
    held_out: Sequence[int],
    quantile: float = 0.01,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Thresholds at which about `quantile` of new real images of each source would be flagged.

    `held_out` are rows of `pairs` that are not in the bank; of more than 2,000 as many are drawn.
    For a source with under 100 of them, training images are compared with those of other groups
    instead, and a source with too few of these takes the threshold of all images together.

    Raises VesaliusError where there is not a single image to calibrate on.
    """
    if len(held_out) > MOST:
        held_out = np.random.default_rng(0).choice(held_out, MOST, replace=False).tolist()
    sources = np.array(bank.sources)
    distance, kind, layout = _distances(bank, pairs, held_out, on_progress=on_progress)
    repeated = distance <= REPEAT
    thresholds, every = {}, [distance[~repeated]]
    for source in sorted(set(bank.sources)):
        own, on = distance[(kind == source) & ~repeated], "held-out images"
        if len(own) < LEAST_HELD_OUT:
            own, on = _within(bank, pairs, np.flatnonzero(sources == source)), (
                f"training images and those of other groups: {len(own)} held-out ones are too few"
            )  # fmt: skip
            every.append(own)
        if len(own) >= LEAST_HELD_OUT:
            thresholds[source] = calibrate(own, quantile, on, least=REPEAT)
    if not len(together := np.concatenate(every)):
        raise VesaliusError(
            "no real image to calibrate copies on: every one is of a single group, or a duplicate "
            "of another; give a threshold"
        )
    thresholds[EVERY] = calibrate(together, quantile, "images of all sources", least=REPEAT)
    names, counts = np.unique(kind[repeated], return_counts=True)
    repeats = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
    farthest = float(layout.max()) if len(layout) >= LEAST_HELD_OUT else FARTHEST
    return Calibration(thresholds, len(held_out), repeats, farthest)


def _within(bank: Bank, pairs: Pairs, members: np.ndarray) -> np.ndarray:
    """Distances of some `members` of the bank to images of other groups, duplicates left out."""
    if len(members) > _WITHIN:
        members = np.sort(np.random.default_rng(0).choice(members, _WITHIN, replace=False))
    groups = [bank.groups[row] for row in members]
    rows = [bank.rows[row] for row in members]
    distance, _, _ = _distances(bank, pairs, rows, without=groups)
    return distance[np.isfinite(distance) & (distance > REPEAT)]


def _distances(
    bank: Bank,
    pairs: Pairs,
    rows: Sequence[int],
    without: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance of rows of `pairs` to the nearest of the bank, its source, and that by layout."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [
        (np.empty(0), np.empty(0, str), np.empty(0))
    ]
    for start, part in _parts(rows):
        images = np.stack([small(pairs.image(row, WHOLE)) for row in part])
        own = without[start : start + len(part)] if without is not None else None
        near = bank.nearest(images, without=own)
        sources = np.array([bank.sources[row] for row in near.index[:, 0]])
        found.append((near.distance[:, 0], sources, near.layout))
        on_progress(start + len(part), len(rows))
    distance, source, layout = (np.concatenate(each) for each in zip(*found, strict=True))
    return distance, source, layout


def _parts(rows: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    for start in range(0, len(rows), _BATCH):
        yield start, rows[start : start + _BATCH]
