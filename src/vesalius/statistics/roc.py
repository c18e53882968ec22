"""How well a score tells two kinds of images apart: ROC, its area, and what few false alarms find.

    AUROC = P(score of a positive > score of a negative) + P(equal) / 2

Intervals are by bootstrap of groups (patients), drawn with replacement as weights: one sort of the
scores serves every replicate.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.figure import Figure
from vesalius.statistics.grouped import in_parts
from vesalius.statistics.intervals import LEVEL

REPLICATES = 1000
POINTS = 100  # of a curve that is kept


@dataclass(frozen=True)
class Roc:
    """Points of one curve (U + 1,) or of several (R, U + 1), from (0, 0) to (1, 1)."""

    false_positives: np.ndarray  # rates
    true_positives: np.ndarray

    @property
    def area(self) -> np.ndarray:
        """AUROC, () or (R,), by the trapezoidal rule: equal scores count half."""
        steps = np.diff(self.false_positives)
        return (steps * (self.true_positives[..., 1:] + self.true_positives[..., :-1]) / 2).sum(-1)

    def found_at(self, false_positive_rate: float) -> np.ndarray:
        """The largest true-positive rate, () or (R,), at no more than this false-positive rate.

        NaN for a replicate that lacks one kind.
        """
        allowed = self.false_positives <= false_positive_rate + 1e-12
        found = np.where(allowed, self.true_positives, 0).max(-1)
        return np.where(np.isnan(self.false_positives[..., -1]), np.nan, found)

    def points(self, most: int = POINTS) -> list[list[float]]:
        """At most so many points of one curve, the ends among them."""
        x, y = self.false_positives, self.true_positives
        chosen = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int))
        return [[round(float(x[k]), 4), round(float(y[k]), 4)] for k in chosen]


def roc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> Roc:
    """The ROC of `scores` (N,) for `positive` (N,) bool; of each row of `weights` (R, N) if given.

    Raises VesaliusError without a positive or a negative, and for scores that are not finite.
    """
    scores, positive = np.asarray(scores, float), np.asarray(positive, bool)
    if not np.isfinite(scores).all():
        raise VesaliusError("the scores hold NaN or infinity: no ROC can be drawn")
    if positive.all() or not positive.any():
        raise VesaliusError(
            f"a ROC needs positives and negatives, not {positive.sum()} and {(~positive).sum()}"
        )
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of each run of equal scores
    weights = np.ones(len(scores)) if weights is None else weights

    def rates(kind: np.ndarray) -> np.ndarray:
        total = np.cumsum(np.where(kind, weights, 0)[..., order], axis=-1, dtype=float)[..., last]
        rates = total / total[..., -1:]
        return np.concatenate([np.zeros_like(rates[..., :1]), rates], axis=-1)

    with np.errstate(invalid="ignore"):  # a replicate may lack one kind: its rates are NaN
        return Roc(rates(~positive), rates(positive))


@dataclass(frozen=True)
class Detection:
    """How well positives are found."""

    auroc: Figure
    found: Figure  # true-positive rate at no more than `false_positive_rate`
    false_positive_rate: float


def detection(
    scores: np.ndarray,
    positive: np.ndarray,
    groups: Sequence[Hashable] | None = None,
    *,
    false_positive_rate: float = 0.01,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Detection:
    """AUROC and true positives at few false ones of `scores` (N,), `positive` (N,) bool.

    Images of one group are drawn together; without groups each is its own. Groups with a positive
    and groups without are drawn apart, so that every replicate has both. A figure of exactly 0 or 1,
    which every replicate repeats, gets the exact bound of as many independent trials as there are
    groups (for the AUROC: of the rarer kind, in disjoint pairs). Any other figure has no interval where
    one group is all that has positives, or negatives: it would be in every replicate.
    Raises VesaliusError as `roc` does.
    """
    positive = np.asarray(positive, bool)
    curve = roc(scores, positive)
    codes = group_codes(groups, len(positive))
    rng = np.random.default_rng(seed)
    areas: list[np.ndarray] = []
    founds: list[np.ndarray] = []
    for part in in_parts(replicates, len(positive)):
        curves = roc(scores, positive, resampled(codes, positive, part, rng))
        areas.append(curves.area)
        founds.append(curves.found_at(false_positive_rate))
    kinds = [len(np.unique(codes[kind])) for kind in (positive, ~positive)]
    details = {"positives": float(positive.sum()), "negatives": float((~positive).sum())}

    def figure(name: str, value: float, several: list[np.ndarray], trials: int) -> Figure:
        if min(kinds) < 2 and value not in (0, 1):
            note = "one patient has all of a kind: no interval"
            return Figure(name, value, n=len(positive), note=note, details=details)
        low, high = interval(value, np.concatenate(several), trials)
        return Figure(name, value, low, high, n=len(positive), details=details)

    return Detection(
        figure("auroc", float(curve.area), areas, min(kinds)),
        figure("found", float(curve.found_at(false_positive_rate)), founds, kinds[0]),
        false_positive_rate,
    )


def group_codes(groups: Sequence[Hashable] | None, count: int) -> np.ndarray:
    """Groups as integers (N,), from 0; none, or an empty one, is a group of its own."""
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise VesaliusError(f"{len(groups)} groups for {count} images")
    known: dict[Hashable, int] = {}
    keys = [group if group not in (None, "") else (row,) for row, group in enumerate(groups)]
    return np.array([known.setdefault(key, len(known)) for key in keys])


def resampled(
    codes: np.ndarray, positive: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """How often each image is drawn in each of `count` replicates: (count, N).

    Groups with an image that is `positive` (N,) and groups without are drawn apart.
    """
    several = codes.max() + 1
    with_positive = np.zeros(several, bool)
    with_positive[codes[positive]] = True
    drawn = np.zeros((count, several))
    for stratum in (with_positive, ~with_positive):
        if size := int(stratum.sum()):
            drawn[:, stratum] = rng.multinomial(size, np.full(size, 1 / size), size=count)
    return drawn[:, codes]


def interval(value: float, replicates: np.ndarray, trials: int) -> tuple[float, float]:
    """The 95 % interval of `value` from its replicates; of 0 or 1 from so many exact trials."""
    tail = (1 - LEVEL) / 2
    bound = tail ** (1 / trials)
    if value in (0, 1):
        return (bound, 1.0) if value == 1 else (0.0, 1 - bound)
    low, high = np.nanquantile(replicates, [tail, 1 - tail])
    return float(low), float(high)
