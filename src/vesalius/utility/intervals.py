"""How sure a score is: over test images, over seeds, or over both.

A score has two causes of chance. Other patients would have given another score (images), and so
would another training of the same recipe (seeds). An interval over images alone takes the trained
models for fixed: it says what *these* models do on other patients. One over seeds alone takes the
test images for fixed: it says what other trainings do on *these* patients. Only `over="both"` says
what another training does on other patients.

Seeds s and images i are crossed, every model sees every image. With variances A of seeds, B of
images and E of the two together, the mean of S seeds over n images has the variance

    A / S + B / n + E / (n S)

Resampling images alone sees the last two terms, and resampling seeds alone the first and the last.
So the variance is that of images plus that of seeds less that of both, which would else count
twice (Cameron, Gelbach and Miller 2011), and never less than either. Resampling both at once, the
usual hierarchical bootstrap, counts the last term three times (Owen 2007), and few seeds too little.
Three to five seeds say little about A: Student's t with Satterthwaite's degrees of freedom pays for
it.

What every seed shares, it cannot vary: seeds that train on the same images say nothing about another
training set of that size. Where that is asked, each seed must draw its own (or see
`paired.over_folds`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.figure import Figure
from vesalius.statistics.intervals import LEVEL
from vesalius.statistics.roc import REPLICATES
from vesalius.statistics.roc import interval as bootstrap_interval
from vesalius.utility.scores import LOWER_IS_BETTER, Truth, predictions, score

Over = Literal["both", "images", "seeds"]
_CELLS = 4_000_000  # of weights held at once


def strata(truth: Truth) -> np.ndarray:
    """The stratum of each group (G,): its fold, and the rarest class that it shows.

    Groups of a stratum are drawn among themselves, so that no replicate lacks a rare class. So the
    share of each class is taken as given, as in DeLong's variance.
    """
    counts = truth.positive.sum(0)
    order = np.argsort(counts, kind="stable")
    shown = truth.positive[:, order]
    rarest = np.where(shown.any(1), shown.argmax(1), len(counts))
    of_group = np.full(truth.groups.max() + 1, len(counts))
    np.minimum.at(of_group, truth.groups, rarest)
    fold = np.zeros(len(of_group), int)
    fold[truth.groups] = truth.folds
    return np.unique(fold * (len(counts) + 1) + of_group, return_inverse=True)[1]


def group_weights(truth: Truth, count: int, rng: np.random.Generator) -> np.ndarray:
    """How much each image counts in each of `count` bootstrap replicates, (count, N).

    Groups are drawn whole. Of the m groups of a stratum m - 1 are drawn, and weighed by m / (m - 1),
    without which few groups would seem too sure (Rao and Wu 1988). A stratum of one group stays.
    """
    of_group = strata(truth)
    drawn = np.ones((count, len(of_group)))
    for stratum in range(of_group.max() + 1):
        inside = of_group == stratum
        if (size := int(inside.sum())) > 1:
            times = rng.multinomial(size - 1, np.full(size, 1 / size), size=count)
            drawn[:, inside] = times * size / (size - 1)
    return drawn[:, truth.groups]


def replicates(
    truth: Truth,
    arms: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    of: str | None = None,
    times: int = REPLICATES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Each score on `times` replicates of the test images, (arms, times, S); all share the draws.

    `arms` holds predictions (S, N, C).
    """
    rng, step = np.random.default_rng(seed), max(1, _CELLS // len(truth))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, times, step):
        w = group_weights(truth, min(step, times - start), rng)
        for name in names:
            found = [[score(name, truth, p, w, of) for p in arm] for arm in arms]
            parts[name].append(np.swapaxes(np.array(found), 1, 2))
    return {name: np.concatenate(each, axis=1) for name, each in parts.items()}


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


def spread(truth: Truth, values: np.ndarray, drawn: np.ndarray) -> Spread:
    """From a score by seed (S,) and its replicates over images (R, S)."""
    drawn = drawn[np.isfinite(drawn).all(1)]  # a replicate may lack a finding
    mean, seeds = drawn.mean(1), len(values)
    rest = (drawn - mean[:, None]).var(0, ddof=1).mean() / (seeds - 1) if seeds > 1 else 0.0
    return Spread(float(mean.var(ddof=1)), over_seeds(values), float(rest), freedom(truth), seeds)


def over_seeds(values: np.ndarray) -> float | None:
    """The variance of the mean of (S,) values, None of one."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else None


def freedom(truth: Truth) -> int:
    """Groups less strata."""
    of_group = strata(truth)
    return len(of_group) - int(of_group.max()) - 1


def figures(
    truth: Truth,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    of: str | None = None,
    over: Over = "both",
    times: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Figure]:
    """Each score of an arm, the mean over its seeds, with its 95 % interval.

    Over images the interval is the bootstrap's, whose shape need not be symmetric; over both it is
    that, widened about its middle to the whole variance. Over seeds it is Student's t. A perfect
    score, which every replicate repeats, gets the exact bound of as many trials as there are groups.
    A score that the images do not allow, or an interval, is None, and `note` says why.
    """
    p = predictions(truth, probabilities)
    drawn = replicates(truth, [p], names, of=of, times=times, seed=seed)
    made: dict[str, Figure] = {}
    for name in names:
        values = np.array([score(name, truth, each, of=of)[0] for each in p])
        made[name] = _figure(name, truth, values, drawn[name][0], over)
    return made


def _figure(name: str, truth: Truth, values: np.ndarray, drawn: np.ndarray, over: Over) -> Figure:
    groups, value = len(np.unique(truth.groups)), float(values.mean())
    details = {"groups": float(groups), "seeds": float(len(values))}
    if not np.isfinite(value):
        return Figure(name, None, n=len(truth), note="a class has no image to score it by")
    if len(values) > 1:
        details["sd_over_seeds"] = float(values.std(ddof=1))
    figure = Figure(name, value, n=len(truth), details=details)
    usable = drawn[np.isfinite(drawn).all(1)].mean(1)
    if groups < 3 or freedom(truth) < 1 or len(usable) < len(drawn) / 2:
        return replace(figure, note="too few patients: no interval")
    found = spread(truth, values, drawn)
    variance, degrees = found.variance(over)
    note = "one seed: how far other trainings differ is not in the interval"
    note = note if over == "both" and len(values) == 1 else ""
    if over == "seeds":
        reach = student_quantile((1 + LEVEL) / 2, degrees) * math.sqrt(variance)
        low, high = value - reach, value + reach
    elif found.images == 0:
        if value not in (0, 1) or name in LOWER_IS_BETTER:
            return replace(figure, note="every patient scores alike: no interval")
        low, high = bootstrap_interval(value, usable, groups)
    else:
        edges = np.quantile(usable, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        z = student_quantile((1 + LEVEL) / 2, math.inf)
        wide = math.sqrt(variance / found.images)
        wide *= 1 if over == "images" else student_quantile((1 + LEVEL) / 2, degrees) / z
        low, high = value + (edges - usable.mean()) * wide
    most = math.inf if name == "log_loss" or name == "brier" else 1.0
    return replace(figure, low=max(0.0, float(low)), high=min(most, float(high)), note=note)


def student_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t, by quadrature; a `freedom` of infinity is the normal law.

    T = sqrt(f) tan(a) has the density cos(a)^(f - 1) over a in (-pi/2, pi/2).
    """
    if t < 0:
        return 1 - student_tail(-t, freedom)
    if not math.isfinite(freedom) or freedom > 1e6:
        return math.erfc(t / math.sqrt(2)) / 2
    start = math.atan(t / math.sqrt(freedom))
    stop = min(math.pi / 2, start + 14 / math.sqrt(freedom))  # beyond it nothing is left
    nodes, weights = _legendre()
    angles = start + (nodes + 1) / 2 * (stop - start)
    total = (weights * np.cos(angles) ** (freedom - 1)).sum() * (stop - start) / 2
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(math.pi) / 2
    return float(total * math.exp(scale))


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(100)


def student_quantile(level: float, freedom: float) -> float:
    """The t below which `level` (0.5 or more) of Student's law lies, by bisection."""
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2
