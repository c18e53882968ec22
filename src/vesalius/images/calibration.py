"""What real images that were not trained on say: how near an honest new image comes to the training images.

Each source has a threshold of its own, for images whose nearest training image is of that source:
blood cells never come as near to one another as slices of one scan do, and a threshold for all
would be blind to copies of the former. A held-out image that `vesalius pairs` would call a
duplicate of a training image is no new image, and says nothing about them: it is left out, counted,
and no threshold lies below that of a duplicate.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vesalius.images.nearness import LEAST_HELD_OUT, Threshold, calibrate
from vesalius.images.training_index import REPEAT, ImageIndex, Nearest, Progress

EVERY = ""  # the source whose threshold serves those that have none of their own
FARTHEST = 2.0  # no two layouts are farther apart
MOST = 2000  # held-out images that are looked at
_WITHIN = 300  # training images of a source that are compared with those of other groups
_LEAST_GROUPS = 10
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


def calibrate_index(training: ImageIndex, held_out: Nearest, quantile: float = 0.01) -> Calibration:
    """Thresholds at which about `quantile` of new real images of each source would be flagged.

    `held_out` is `nearest_of` images that share no group with those of `training`, of `some` of them if
    there are many. For a source with under 100 of them, training images are compared with those of
    other groups too, and a source with too few of these takes the threshold of all images together.
    Where even all are too few, it is that of duplicates.
    """
    sources = np.array(training.sources)
    distance, kind = held_out.distance[:, 0], sources[held_out.index[:, 0]]
    repeated = distance <= REPEAT
    thresholds, every = {}, [distance[~repeated]]
    for source in sorted(set(training.sources)):
        own, on = distance[(kind == source) & ~repeated], "held-out images"
        if len(own) < LEAST_HELD_OUT:
            within = _within(training, np.flatnonzero(sources == source))
            on = f"{len(own)} held-out images, and {len(within)} of training against other groups"
            own = np.concatenate([own, within])
            every.append(within)
        if len(own) >= LEAST_HELD_OUT:
            thresholds[source] = calibrate(own, quantile, on, least=REPEAT)
    if len(together := np.concatenate(every)) >= LEAST_HELD_OUT:
        thresholds[EVERY] = calibrate(together, quantile, "images of all sources", least=REPEAT)
    else:
        on = f"{len(together)} real images are too few: what `vesalius pairs` calls a duplicate"
        thresholds[EVERY] = Threshold(REPEAT, quantile, len(together), 0.0, 1.0, on)
    names, counts = np.unique(kind[repeated], return_counts=True)
    repeats = {str(name): int(count) for name, count in zip(names, counts, strict=True)}
    farthest = float(held_out.layout.max()) if len(distance) >= LEAST_HELD_OUT else FARTHEST
    return Calibration(thresholds, len(distance), repeats, farthest)


def some(count: int, most: int = MOST) -> np.ndarray:
    """Rows of `count`, all or `most` of them that are drawn once and for all."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def nearest_of(
    training: ImageIndex,
    images: ImageIndex,
    rows: Sequence[int] | np.ndarray,
    *,
    leave_group_out: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> Nearest:
    """The nearest of `training` to some rows of `images`, (n, k) as `ImageIndex.nearest` gives them.

    With `leave_group_out` training images of an image's own group do not count.
    """
    found = [training.nearest(images.look([]))]
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        own = [images.groups[row] for row in part] if leave_group_out else None
        found.append(training.nearest(images.look(part), without=own))
        on_progress(start + len(part), len(rows))
    return Nearest(
        *(
            np.concatenate([getattr(each, name) for each in found])
            for name in ("index", "distance", "symmetry", "layout")
        )
    )


def _within(training: ImageIndex, members: np.ndarray) -> np.ndarray:
    """Distances of some `members` of the index to images of other groups, duplicates left out.

    None where there are so few groups that leaving one out makes the index another.
    """
    if len({training.groups[row] for row in members}) < _LEAST_GROUPS:
        return np.empty(0)
    members = members[some(len(members), _WITHIN)]
    distance = nearest_of(training, training, members, leave_group_out=True).distance[:, 0]
    return distance[np.isfinite(distance) & (distance > REPEAT)]
