"""FID of several ways to draw the same images, and how sure it is that one is better than another.

The intervals are by the delete-a-group jackknife (Shao & Wu 1989): the images are cut into groups
at random, the figure is taken again without each, and its variance is (K - 1) / K times the sum of
squared deviations. A bootstrap would not do: it takes images twice, and FID rises with that alone.
Where the same captions and seeds are left out on both sides, chance that both share cancels.
The real images are held fixed: the intervals are of what other seeds and captions would give.
"""

from dataclasses import dataclass

import numpy as np

from vesalius.statistics.distances import checked

GROUPS = 32
T_95 = 2.04  # Student's t for 95 % with 31 degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class ToReal:
    """FID to one fixed set of real features (M, D), of many subsets of a few sets of images.

    The Gram form of `vesalius.statistics.distances`, with X S_real X^T taken once a set: the FID of a
    subset is then an eigendecomposition of (N, N).
    """

    def __init__(self, real: np.ndarray) -> None:
        real = checked(real)
        self.mean = real.mean(0)
        self.root = (real - self.mean) / np.sqrt(len(real) - 1)  # S_real = root^T root
        self.trace = np.square(self.root).sum()

    def without_each(self, features: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """FID of features (N, D), then of those without group 0, without group 1, ...: (1 + K,).

        `groups` (N,) says which of the K groups each image is in.
        """
        x = checked(features) - self.mean  # moves both means, and no figure
        projected = x @ self.root.T
        gram = projected @ projected.T  # (N, N)
        kept = [groups >= 0, *(groups != k for k in range(groups.max() + 1))]
        return np.array([self._fid(x[keep], gram[np.ix_(keep, keep)]) for keep in kept])

    def _fid(self, x: np.ndarray, gram: np.ndarray) -> float:
        count = len(x)
        shift = np.square(x.mean(0)).sum()
        trace = np.square(x - x.mean(0)).sum() / (count - 1)
        gram = gram - gram.mean(0) - gram.mean(1, keepdims=True) + gram.mean()  # of centred x
        overlap = np.sqrt(np.linalg.eigvalsh(gram / (count - 1)).clip(min=0)).sum()
        return float(shift + trace + self.trace - 2 * overlap)


def in_groups(count: int) -> np.ndarray:
    """A group for each of `count` images, (count,), at random and as even as it goes."""
    groups = np.arange(count) % min(GROUPS, count // 2)
    return np.random.default_rng(0).permutation(groups)


def estimate(figures: np.ndarray) -> Estimate:
    """A figure and its interval from what `ToReal.without_each` gave, or a difference of such."""
    value, without = figures[0], figures[1:]
    spread = np.square(without - without.mean()).sum() * (len(without) - 1) / len(without)
    half = T_95 * float(np.sqrt(spread))
    return Estimate(float(value), float(value) - half, float(value) + half)
