"""Bootstrap weights where images of one group (patient) are alike, and rare strata must not be lost."""

from collections.abc import Iterator

import numpy as np

_CELLS = 4_000_000  # numbers of an array of replicates that are held at once


def in_parts(count: int, width: int) -> Iterator[int]:
    """`count` replicates of `width` numbers, in parts that may be held at once."""
    step = max(1, _CELLS // max(1, width))
    return (min(step, count - start) for start in range(0, count, step))


def group_weights(
    strata: np.ndarray, groups: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """How much each image counts in each of `count` bootstrap replicates, (count, N).

    `groups` (N,) numbers each image's group, `strata` (G,) each group's stratum, both from 0. Groups
    are drawn whole. Of the m groups of a stratum m - 1 are drawn, and weighed by m / (m - 1), without
    which few groups would seem too sure (Rao and Wu 1988). A stratum of one group stays.
    """
    drawn = np.ones((count, len(strata)))
    for stratum in range(strata.max() + 1):
        inside = strata == stratum
        if (size := int(inside.sum())) > 1:
            times = rng.multinomial(size - 1, np.full(size, 1 / size), size=count)
            drawn[:, inside] = times * size / (size - 1)
    return drawn[:, groups]
