"""What no generator can be expected to reach: real images against real images."""

import numpy as np

from vesalius.statistics.distances import checked, fid


def halves_fid(x: np.ndarray, seed: int = 0) -> float:
    """The FID of a random half of `x` (N, D) against the other: what no generator can be below.

    Each half has N // 2 samples, so the bias is that of N // 2: a guide, not a bound, beside the
    FID of N against N.
    """
    x = checked(x)
    order = np.random.default_rng(seed).permutation(len(x))
    half = len(x) // 2
    return fid(x[order[:half]], x[order[half : 2 * half]])
