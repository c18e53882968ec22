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

_HALVINGS = 4  # of the guesses, that are tried
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
    """The bound of `one_run_bound` where every guess is right."""
    tried = [(r, r) for r in _tried(canaries)] * 2
    return _best(canaries, tried, delta, confidence)[0]


def paired_bound(
    differences: Sequence[float] | np.ndarray, delta: float = 0.0, confidence: float = 0.95
) -> OneRunBound:
    """The bound from pairs of which a fair coin put one into training: it is of replace-one epsilon.

    `differences` (m,) are scores of the one that was trained on less those of the other; higher scores
    speak for membership, so that a guess is right where it is above 0. The pairs that differ most are
    guessed. A difference of 0 is a wrong guess.
    Raises VesaliusError without pairs, or with differences that are not numbers.
    """
    found = np.asarray(differences, float)
    if not len(found):
        raise VesaliusError("an audit by pairs needs one pair at least")
    if not np.isfinite(found).all():
        raise VesaliusError("a pair's difference is not a finite number: the audit says nothing")
    order = found[np.argsort(-np.abs(found), kind="stable")]
    tried = [(guesses, int((order[:guesses] > 0).sum())) for guesses in _tried(len(found))]
    ceiling = _best(len(found), [(r, r) for r, _ in tried], delta, confidence)[0]
    return _bound(len(found), tried, ceiling, delta, confidence)


def one_run_bound(
    inside: Sequence[float] | np.ndarray,
    outside: Sequence[float] | np.ndarray,
    delta: float = 0.0,
    confidence: float = 0.95,
) -> OneRunBound:
    """The bound from scores of canaries that were trained on and of those that were not.

    Higher scores speak for membership. Of r guesses half are "trained on", for the highest scores, and
    half "not", for the lowest; or r / 2 are "trained on" and none "not", which is better where many who
    were trained on have left no trace. Canaries of equal scores are taken in the order that is worst
    for the bound.
    Raises VesaliusError without scores of both kinds, or with some that are not numbers.
    """
    sides = [np.asarray(side, float) for side in (inside, outside)]
    if not (len(sides[0]) and len(sides[1])):
        raise VesaliusError("an audit needs canaries that were trained on, and some that were not")
    scores = np.concatenate(sides)
    if not np.isfinite(scores).all():
        raise VesaliusError("a canary's score is not a finite number: the audit says nothing")
    member = np.arange(len(scores)) < len(sides[0])
    highest = member[np.lexsort((member, -scores))]
    lowest = ~member[np.lexsort((~member, scores))]
    tried = []
    for guesses in _tried(len(scores)):
        yes = guesses // 2
        true = int(highest[:yes].sum())
        tried += [(yes, true), (guesses, true + int(lowest[: guesses - yes].sum()))]
    ceiling = one_run_ceiling(len(scores), delta, confidence)
    return _bound(len(scores), tried, ceiling, delta, confidence)


def _tried(most: int) -> list[int]:
    """Numbers of guesses: `most`, half of it, a quarter and so on, which nothing in the scores decides.

    The theorem holds for any guesses that are a function of what training gives away, of a number r
    that is chosen before. Which r gave the best bound is seen afterwards, so that the confidence must
    be corrected for all that could have: Bonferroni over these, whose count depends on `most` alone.
    Choosing thresholds by the ROC's shape, and correcting for the few that were chosen, is not
    covered by that: any of m thresholds might have been.
    """
    return [most >> k for k in range(_HALVINGS) if most >> k >= _FEWEST] or [most]


def _bound(
    canaries: int, tried: list[tuple[int, int]], ceiling: float, delta: float, confidence: float
) -> OneRunBound:
    epsilon, guesses, right = _best(canaries, tried, delta, confidence)
    return OneRunBound(epsilon, ceiling, canaries, guesses, right, delta, confidence)


def _best(
    canaries: int, tried: list[tuple[int, int]], delta: float, confidence: float
) -> tuple[float, int, int]:
    """The largest bound of several numbers of guesses, of which so many were right; and these two."""
    strict = 1 - (1 - confidence) / len(tried)
    return max((rejected_epsilon(canaries, r, v, delta, strict), r, v) for r, v in tried)
