"""How sure a mean over seeds and test images is, and tests between two paired results.

A score has two causes of chance. Other patients would have given another score (images), and so
would another training of the same recipe (seeds). Seeds s and images i are crossed, every model sees
every image. With variances A of seeds, B of images and E of the two together, the mean of S seeds
over n images has the variance

    A / S + B / n + E / (n S)

Resampling images alone shows the last two terms, and resampling seeds alone the first and the last.
So the variance is that of images plus that of seeds less that of both, which would else count
twice (Cameron, Gelbach and Miller 2011), and never less than either. Resampling both at once, the
usual hierarchical bootstrap, counts the last term three times (Owen 2007), and few seeds too little.
Three to five seeds say little about A: Student's t with Satterthwaite's degrees of freedom pays for
it.

What every seed shares, it cannot vary: seeds that train on the same images say nothing about another
training set of that size. Where that is the question, each seed must draw its own (or see
`over_folds`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from vesalius.errors import VesaliusError
from vesalius.statistics.grouped import in_parts
from vesalius.statistics.intervals import LEVEL

Over = Literal["both", "images", "seeds"]


def student_quantile(level: float, freedom: float) -> float:
    """The t below which `level` of Student's law lies; a `freedom` of infinity is the normal law."""
    return float(special.stdtrit(freedom, level))


def student_p(t: float, freedom: float) -> float:
    """The two-sided p of `t`."""
    return float(2 * special.stdtr(freedom, -abs(t)))


@dataclass(frozen=True)
class Test:
    """A mean with its 95 % interval and two-sided p, by Student's t."""

    low: float
    high: float
    p: float


def student_test(mean: float, variance: float, freedom: float) -> Test:
    """Of a mean with this variance, above 0, against 0."""
    error = math.sqrt(variance)
    reach = student_quantile((1 + LEVEL) / 2, freedom) * error
    return Test(mean - reach, mean + reach, student_p(mean / error, freedom))


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over seeds, by its causes; see the top of the file."""

    images: float  # over other patients; holds `both`
    seeds: float | None  # over other trainings; holds `both`; None for one seed
    both: float  # of seeds and images together
    groups: int  # less the strata: degrees of freedom of `images`
    count: int  # seeds

    def variance(self, over: Over) -> tuple[float, float]:
        """The variance and its degrees of freedom.

        Raises VesaliusError for `seeds` with one seed; `both` is then `images`.
        """
        by_groups, by_seeds = max(1, self.groups), self.count - 1
        if over == "images" or (over == "both" and self.seeds is None):
            return self.images, by_groups
        if self.seeds is None:
            raise VesaliusError("an interval over seeds needs two of them: train with more seeds")
        if over == "seeds":
            return self.seeds, by_seeds
        total = max(self.images + self.seeds - self.both, self.images, self.seeds)
        rest = total - self.seeds
        parts = self.seeds**2 / by_seeds + rest**2 / by_groups
        freedom = total**2 / parts if parts else by_groups
        return total, float(np.clip(freedom, min(by_seeds, by_groups), by_groups))


def spread(values: np.ndarray, replicates: np.ndarray, groups: int) -> Spread:
    """From a score by seed (S,) and its replicates over images (R, S); `groups` are as in `Spread`."""
    drawn = replicates[np.isfinite(replicates).all(1)]  # a replicate may lack a finding
    mean, seeds = drawn.mean(1), len(values)
    rest = (drawn - mean[:, None]).var(0, ddof=1).mean() / (seeds - 1) if seeds > 1 else 0.0
    return Spread(float(mean.var(ddof=1)), over_seeds(values), float(rest), groups, seeds)


def spread_of_errors(values: np.ndarray, errors: np.ndarray, groups: int) -> Spread:
    """From a score by seed (S,) and each group's part of its error (S, G), whose squares add up."""
    mean, seeds = errors.mean(0), len(values)
    both = ((errors - mean) ** 2).sum() / (seeds * (seeds - 1)) if seeds > 1 else 0.0
    return Spread(float((mean**2).sum()), over_seeds(values), float(both), groups, seeds)


def over_seeds(values: np.ndarray) -> float | None:
    """The variance of the mean of (S,) values, None of one."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else None


def over_folds(gains: np.ndarray, test_share: float) -> tuple[float, float, float]:
    """The mean gain of a repeated k-fold, its variance, and its degrees of freedom.

    `gains` (seeds, folds) are differences of a score on each fold's test images, `test_share` is
    test images over training images. Folds train on mostly the same images, so their gains are not
    independent: variance = (1 / J + test_share) times that of the J folds' gains (Nadeau and Bengio
    2003). Seeds share a fold's images, so their mean is its gain: more of them are no more folds.
    It answers for another sample of training images, too.
    """
    of_fold = np.asarray(gains, float).mean(0)
    if len(of_fold) < 2:
        raise VesaliusError("a test over folds needs two of them")
    variance = (1 / len(of_fold) + test_share) * of_fold.var(ddof=1)
    return float(of_fold.mean()), float(variance), len(of_fold) - 1.0


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 of (N,) values; equal ones share the mean of theirs."""
    ordered = np.sort(values)
    below, upto = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (below + upto + 1) / 2


def influence(values: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """An AUROC, and what each image (N,) adds to its error: DeLong's components, centred.

        of a positive: (V10 - AUROC) / sqrt(m (m - 1)), of a negative: (V01 - AUROC) / sqrt(n (n - 1))

    so that the sum of their squares is DeLong's variance (DeLong et al. 1988; by midranks as Sun and
    Xu 2014). V10 is the share of the n negatives that lie below a positive, V01 that of the m
    positives above a negative; equal values count half.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    every = midranks(values)
    shares = np.empty(len(values))
    shares[positive] = (every[positive] - midranks(values[positive])) / n
    shares[~positive] = 1 - (every[~positive] - midranks(values[~positive])) / m
    area = float(shares[positive].mean())
    scale = [math.sqrt(max(1, count * (count - 1))) for count in (n, m)]
    return area, (shares - area) / np.where(positive, scale[1], scale[0])


def mcnemar(b: int, c: int) -> tuple[float, float]:
    """Exact and mid p (McNemar) that `b` and `c` are fair throws of one coin."""
    n, least = b + c, min(b, c)
    upto = float(special.bdtr(least, n, 0.5))
    chance = upto - (float(special.bdtr(least - 1, n, 0.5)) if least else 0.0)
    return min(1.0, 2 * upto), 1.0 if b == c else 2 * upto - chance


def permutation_test(
    gain: Callable[[np.ndarray], np.ndarray], groups: np.ndarray, times: int, seed: int = 0
) -> float:
    """The two-sided p of a gain when two arms are swapped, whole groups at a time.

    `gain` takes `swapped` (R, N) of zeros and ones, whether an image's arms are swapped, to gains (R,);
    `groups` (N,) are numbers. It needs no law and no large sample, only that under the null hypothesis
    a group's results might as well have come from the other arm.
    """
    rng, count = np.random.default_rng(seed), groups.max() + 1
    found: list[np.ndarray] = []
    for part in in_parts(times + 1, 2 * len(groups)):
        swapped = rng.integers(0, 2, (part, count))[:, groups]
        if not found:
            swapped[0] = 0  # the arms as they are
        found.append(gain(swapped))
    gains = np.abs(np.concatenate(found))
    return float((gains >= gains[0] - 1e-12).mean())
