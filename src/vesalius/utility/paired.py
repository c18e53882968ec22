"""Tests between two arms on the same test images, and the correction for several of them.

`delong` gives the variances of an AUROC by its structural components, in one sort and without
draws; with several seeds the AUROC is the mean of the seeds' AUROCs (what one training of the
recipe is expected to reach), not that of their averaged predictions, which is another classifier.
`mcnemar` compares the decisions of two classifiers, `permutation` any score by swapping the arms
patient by patient, `over_folds` the scores of a repeated k-fold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.roc import REPLICATES
from vesalius.utility.intervals import Spread, freedom, over_seeds, student_tail
from vesalius.utility.scores import Truth, decisions, score

_CELLS = 4_000_000  # of weights held at once


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


def influences(truth: Truth, p: np.ndarray, of: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The AUROC of each seed (S,), and each group's part of its error (S, G).

    Of several classes the mean over them, and of folds the mean over those. Images of one patient
    are added up before they are squared (Obuchowski 1997), classes likewise.
    """
    columns = truth.scored if of is None else [truth.column(of)]
    areas, errors = np.zeros(len(p)), np.zeros(p.shape[:2])
    folds = np.unique(truth.folds)
    for fold in folds:
        rows = np.flatnonzero(truth.folds == fold)
        y = truth.positive[rows]
        able = [c for c in columns if y[:, c].any() and not y[:, c].all()]
        if not able:
            return np.full(len(p), np.nan), np.zeros((len(p), truth.groups.max() + 1))
        for seed, column in ((s, c) for s in range(len(p)) for c in able):
            area, parts = influence(p[seed, rows, column], y[:, column])
            areas[seed] += area / len(able) / len(folds)
            errors[seed, rows] += parts / len(able) / len(folds)
    return areas, np.stack([np.bincount(truth.groups, row) for row in errors])


@dataclass(frozen=True)
class DeLong:
    """AUROC of the second arm less that of the first."""

    difference: float
    spread: Spread
    z: float  # over images, the models fixed: DeLong's own test
    p: float


def delong(truth: Truth, first: np.ndarray, second: np.ndarray, of: str | None = None) -> DeLong:
    """DeLong's test of two arms' AUROCs, predictions (S, N, C); the macro average of several classes.

    Where each image is its own group this is the textbook's; else clustered.
    """
    (a, of_a), (b, of_b) = influences(truth, first, of), influences(truth, second, of)
    errors, seeds = of_b - of_a, len(a)
    mean = errors.mean(0)
    both = ((errors - mean) ** 2).sum() / (seeds * (seeds - 1)) if seeds > 1 else 0.0
    images = float((mean**2).sum())
    spread = Spread(images, over_seeds(b - a), float(both), freedom(truth), seeds)
    difference = float((b - a).mean())
    z = difference / math.sqrt(images) if images else 0.0
    return DeLong(difference, spread, z, 2 * student_tail(abs(z), math.inf))


@dataclass(frozen=True)
class McNemar:
    """Decisions of two classifiers on the same images."""

    only_first: int  # images that only the first arm gets right
    only_second: int
    exact: float  # two-sided binomial p
    mid: float  # the same less half the chance of what was seen: closer to its level


def mcnemar(truth: Truth, first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's test of two arms, predictions (S, N, C), as exact binomial and as mid-p.

    Each arm decides by the mean of its seeds' predictions: one classifier, the ensemble. Images
    count as independent. Findings that do not exclude each other have no one decision an image:
    that is a VesaliusError, as are patients with several images.
    """
    if truth.kind == "multi-label":
        raise VesaliusError("McNemar's test needs one decision an image: compare findings by auroc")
    if len(np.unique(truth.groups)) < len(truth):
        raise VesaliusError(
            "McNemar's test takes images for independent and some are of one patient: "
            "use the permutation test, which swaps whole patients"
        )
    right = [(decisions(truth, p.mean(0)) & truth.positive).any(-1) for p in (first, second)]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return McNemar(only_first, only_second, *discordant(only_first, only_second))


def discordant(b: int, c: int) -> tuple[float, float]:
    """Exact and mid p that `b` and `c` are fair throws of one coin."""
    n, least = b + c, min(b, c)

    def chance(k: int) -> float:
        return math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        )

    upto = sum(chance(k) for k in range(least + 1))
    mid = 1.0 if b == c else 2 * upto - chance(least)
    return min(1.0, 2 * upto), mid


def permutation(
    truth: Truth,
    first: np.ndarray,
    second: np.ndarray,
    name: str,
    *,
    of: str | None = None,
    times: int = 2 * REPLICATES,
    seed: int = 0,
) -> float:
    """The two-sided p of a score's difference when arms are swapped patient by patient.

    All seeds are swapped together: the models are taken for fixed, so this asks about these models
    on other patients. It needs no law and no large sample, only that under the null hypothesis a
    patient's predictions might as well have come from the other arm.
    """
    rng, count = np.random.default_rng(seed), truth.groups.max() + 1
    twice = truth.rows(np.tile(np.arange(len(truth)), 2))
    pooled = np.concatenate([first, second], axis=1)
    step = max(1, _CELLS // (2 * len(truth)))
    found: list[np.ndarray] = []
    for start in range(0, times + 1, step):
        swap = rng.integers(0, 2, (min(step, times + 1 - start), count))[:, truth.groups]
        if start == 0:
            swap[0] = 0  # what was seen
        here, there = np.hstack([1 - swap, swap]), np.hstack([swap, 1 - swap])
        gains = [score(name, twice, p, there, of) - score(name, twice, p, here, of) for p in pooled]
        found.append(np.mean(gains, axis=0))
    gains = np.abs(np.concatenate(found))
    return float((gains >= gains[0] - 1e-12).mean())


def over_folds(gains: np.ndarray, test_share: float) -> tuple[float, float, float]:
    """The mean gain of a repeated k-fold, its variance, and its degrees of freedom.

    `gains` (seeds, folds) are differences of a score on each fold's test images, `test_share` is
    test images over training images. Folds train on mostly the same images, so their gains are not
    independent: variance = (1 / J + test_share) times that of the J gains (Nadeau and Bengio 2003;
    for repetitions Bouckaert and Frank 2004). It answers for another sample of training images, too.
    """
    every = np.asarray(gains, float).ravel()
    if len(every) < 2:
        raise VesaliusError("a test over folds needs two of them")
    variance = (1 / len(every) + test_share) * every.var(ddof=1)
    return float(every.mean()), float(variance), len(every) - 1.0


def corrected(p: Sequence[float], method: Literal["holm", "bh"] = "holm") -> list[float]:
    """P values corrected for their number; a NaN is no test and stays.

    `holm` bounds the chance of a single false finding (Holm 1979), `bh` the share of false ones among
    the findings (Benjamini and Hochberg 1995).
    """
    values = np.asarray(p, float)
    made, tested = values.copy(), np.flatnonzero(~np.isnan(values))
    order, count = tested[np.argsort(values[tested], kind="stable")], len(tested)
    ranks = np.arange(count)
    if method == "holm":
        grown = np.maximum.accumulate(values[order] * (count - ranks))
    else:
        grown = np.minimum.accumulate((values[order] * count / (ranks + 1))[::-1])[::-1]
    made[order] = np.minimum(grown, 1)
    return made.tolist()
