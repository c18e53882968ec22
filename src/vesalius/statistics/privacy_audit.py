"""A lower bound on epsilon from guesses of who was trained on, in one run (Steinke et al. 2023).

Each of m canaries was in or out by a fair coin. An attack guesses r of them and is right v times. If
the training were (epsilon, delta) private, then with q = e^epsilon / (1 + e^epsilon)

    P[right >= v] <= p = beta + 2 m delta alpha,
    beta = P[Bin(r, q) >= v],    alpha = max_i (P[Bin(r, q) >= v - i] - beta) / i

so that every epsilon whose p is below 1 - confidence is rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from vesalius.errors import VesaliusError

_HALVINGS = 4  # of the pairs, that are tried as numbers of guesses
_FEWEST = 8  # guesses that are worth a try
_LARGEST_EPSILON = 64.0  # beyond any claim; the search for a bound ends here


@dataclass(frozen=True)
class OneRunBound:
    """What an audit with canaries has shown."""

    epsilon: float  # the largest that is rejected; 0: none is
    ceiling: float  # the bound if every guess had been right: more could not have been shown
    canaries: int
    guesses: int  # of the threshold that gave the bound
    right: int
    delta: float
    confidence: float

    def __str__(self) -> str:
        return (
            f"epsilon is at least {self.epsilon:.2f} at delta {self.delta:.1e} with "
            f"{self.confidence:.0%} confidence ({self.right:,} of {self.guesses:,} guesses right, "
            f"{self.canaries:,} canaries; more than {self.ceiling:.2f} could not have been shown)"
        )


def one_run_p_value(
    canaries: int, guesses: int, right: int, epsilon: float, delta: float = 0.0
) -> float:
    """The largest chance of so many right guesses under (epsilon, delta): see this module's top."""
    q = expit(epsilon)
    beta = float(binom.sf(right - 1, guesses, q))
    if not delta:
        return beta
    steps = np.arange(1, right + 1)
    slopes = (binom.sf(right - 1 - steps, guesses, q) - beta) / steps
    return min(1.0, beta + 2 * canaries * delta * float(slopes.max(initial=0.0)))


def rejected_epsilon(
    canaries: int, guesses: int, right: int, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """The largest epsilon that `right` of `guesses` reject with `confidence`; 0 where none is."""
    level = 1 - confidence

    def excess(epsilon: float) -> float:
        return one_run_p_value(canaries, guesses, right, epsilon, delta) - level

    if excess(0.0) >= 0:
        return 0.0
    above = 1.0
    while excess(above) < 0:
        if above >= _LARGEST_EPSILON:
            return above
        above *= 2
    root: Any = brentq(excess, 0.0, above, xtol=1e-7)
    return float(root)


def one_run_ceiling(canaries: int, delta: float = 0.0, confidence: float = 0.95) -> float:
    """The bound where all of the canaries are guessed and every guess is right."""
    return rejected_epsilon(canaries, canaries, canaries, delta, confidence)


def paired_bound(
    differences: Sequence[float] | np.ndarray, delta: float = 0.0, confidence: float = 0.95
) -> OneRunBound:
    """The bound from pairs of which a fair coin put one into training: it is of replace-one epsilon.

    `differences` (m,) are scores of the one that was trained on less those of the other; higher scores
    speak for membership, so that a guess is right where it is above 0. The r pairs that differ most
    are guessed, for r = m, m / 2, m / 4 and so on, which nothing in the scores decides; the confidence
    is corrected for their number. A difference of 0 is a wrong guess.
    Raises VesaliusError without pairs, or with differences that are not numbers.
    """
    found = np.asarray(differences, float)
    if not len(found):
        raise VesaliusError("an audit by pairs needs one pair at least")
    if not np.isfinite(found).all():
        raise VesaliusError("a pair's difference is not a finite number: the audit says nothing")
    order = found[np.argsort(-np.abs(found), kind="stable")]
    tried = [len(found) >> k for k in range(_HALVINGS) if len(found) >> k >= _FEWEST] or [
        len(found)
    ]
    strict = 1 - (1 - confidence) / len(tried)
    best = (0.0, 0, 0)
    for guesses in tried:
        right = int((order[:guesses] > 0).sum())
        epsilon = rejected_epsilon(len(found), guesses, right, delta, strict)
        best = max(best, (epsilon, guesses, right))
    ceiling = rejected_epsilon(len(found), len(found), len(found), delta, strict)
    return OneRunBound(best[0], ceiling, len(found), best[1], best[2], delta, confidence)


def one_run_bound(
    inside: Sequence[float] | np.ndarray,
    outside: Sequence[float] | np.ndarray,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> OneRunBound:
    """The bound from scores of canaries that were trained on and of those that were not.

    Higher scores speak for membership. The guess "trained on" is made above a threshold, and none
    below it. The thresholds tried are the corners of the ROC's convex hull, among which the best
    one always is; the confidence is corrected for their number (Bonferroni).
    Raises VesaliusError without scores of both kinds, or with some that are not numbers.
    """
    members, others = (np.sort(np.asarray(side, float)) for side in (inside, outside))
    if not len(members) or not len(others):
        raise VesaliusError("an audit needs canaries that were trained on, and some that were not")
    if not (np.isfinite(members).all() and np.isfinite(others).all()):
        raise VesaliusError("a canary's score is not a finite number: the audit says nothing")
    canaries = len(members) + len(others)
    thresholds = np.r_[np.union1d(members, others), np.inf]
    right = len(members) - np.searchsorted(members, thresholds)
    wrong = len(others) - np.searchsorted(others, thresholds)
    corners = _hull(np.stack([wrong, right], 1)[::-1])
    strict = 1 - (1 - confidence) / len(corners)
    best = (0.0, 0, 0)
    for false, true in sorted(corners.tolist(), key=lambda c: -c[1] / max(1, sum(c))):
        guesses = false + true
        # no better a rate than the best bound's own, or too few guesses, cannot give a better one
        if not guesses or true / guesses <= expit(best[0]):
            continue
        if one_run_p_value(canaries, guesses, true, best[0], delta) < 1 - strict:
            found = rejected_epsilon(canaries, guesses, true, delta, strict)
            best = max(best, (found, guesses, true))
    ceiling = one_run_ceiling(canaries, delta, confidence)
    return OneRunBound(best[0], ceiling, canaries, best[1], best[2], delta, confidence)


def _hull(points: np.ndarray) -> np.ndarray:
    """The corners (K, 2) of the upper convex hull of points (N, 2) that never fall to the right."""
    corners: list[tuple[int, int]] = []
    for x, y in points.tolist():
        while len(corners) > 1:
            (ax, ay), (bx, by) = corners[-2:]
            if (bx - ax) * (y - ay) < (by - ay) * (x - ax):
                break
            corners.pop()
        corners.append((x, y))
    return np.array(corners)
