"""Means of a figure per image, with intervals by groups, over a set and over each of its classes."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from vesalius.core.labels import findings_of
from vesalius.statistics.figure import Figure
from vesalius.statistics.grouped import in_parts
from vesalius.statistics.intervals import LEVEL
from vesalius.statistics.roc import REPLICATES, group_codes


def mean_of(
    name: str, values: np.ndarray, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Figure:
    """The mean of `values` (N,), with the bootstrap interval of drawing groups with replacement.

    A mean, unlike a distance between sets, is not moved by an image that is drawn twice.
    """
    if not len(values):
        return Figure(name, None, note="no image")
    codes = group_codes(groups, len(values))
    totals, sizes = np.bincount(codes, values), np.bincount(codes)
    figure = Figure(name, float(np.mean(values)), n=len(values))
    if len(sizes) < 2:
        return replace(figure, note="one image or patient: no interval")
    rng = np.random.default_rng(seed)
    chances, means = np.full(len(sizes), 1 / len(sizes)), []
    for part in in_parts(REPLICATES, len(sizes)):
        drawn = rng.multinomial(len(sizes), chances, size=part)
        means.append((drawn @ totals) / (drawn @ sizes))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return replace(figure, low=float(low), high=float(high))


def by_class(
    name: str,
    values: np.ndarray,
    labels: Sequence[str | None],
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Figure]:
    """The mean over the images of each class; an image counts for each of its findings."""
    found = [findings_of(label) for label in labels]
    means: dict[str, Figure] = {}
    for finding in sorted(frozenset().union(*found)):
        rows = [row for row, findings in enumerate(found) if finding in findings]
        means[finding] = mean_of(name, values[rows], groups and [groups[row] for row in rows])
    return means
