"""Which of several kinds is preferred, from choices between two, with ties: Bradley-Terry and Davidson.

With worths pi that add up to 1 and nu for ties (Davidson 1970),

    P(i before j) = pi_i / s,  P(tie) = nu sqrt(pi_i pi_j) / s,  s = pi_i + pi_j + nu sqrt(pi_i pi_j)

Intervals are by bootstrap: cases are drawn, then readers, then single choices. The variance of
log(pi / (1 - pi)) is that over cases plus that over readers less that over single choices, which would
else count twice; drawing readers and cases at once would count it three times (`statistics/paired.py`).
Of fewer than three readers it is that over cases alone ("these readers only").
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from vesalius.errors import VesaliusError
from vesalius.statistics.intervals import LEVEL
from vesalius.statistics.paired import Spread, student_quantile
from vesalius.statistics.readers import (
    LEAST_READERS,
    Scope,
)
from vesalius.statistics.roc import REPLICATES

_SMOOTHING = 0.5  # ties and wins of every pair that was shown, in replicates: keeps worths finite


@dataclass(frozen=True)
class Worths:
    """The fit: what each kind is worth, and how often two of equal worth are a tie."""

    names: tuple[str, ...]
    values: np.ndarray  # (K,), of sum 1
    nu: float
    log_likelihood: float
    low: np.ndarray | None = None  # (K,), 95 % intervals
    high: np.ndarray | None = None
    scope: Scope = "these readers only"
    judged: int = 0

    def __repr__(self) -> str:
        shown = []
        for k, name in enumerate(self.names):
            reach = ""
            if self.low is not None and self.high is not None:
                reach = f" ({self.low[k]:.3f} to {self.high[k]:.3f})"
            shown.append(f"{name} {self.values[k]:.3f}{reach}")
        return f"{', '.join(shown)}; nu {self.nu:.3f}; {self.judged} choices, {self.scope}"


@dataclass(frozen=True)
class Choice:
    """One pair as it was shown: the kind on each side, and the side that was chosen."""

    reader: str
    case: Hashable
    left: str
    right: str
    chosen: Literal["left", "right"] | None  # None is a tie


def davidson(wins: np.ndarray, ties: np.ndarray, names: Sequence[str] = ()) -> Worths:
    """The fit of `wins` (K, K), row before column, and `ties` (K, K), which are symmetric.

    Raises VesaliusError where worths are not defined: some kind, or group of kinds, never won or tied
    against the rest (Ford 1957).
    """
    wins, ties = np.asarray(wins, float), np.asarray(ties, float)
    names = tuple(names) or tuple(str(k + 1) for k in range(len(wins)))
    if wins.shape != ties.shape or wins.shape != (len(names), len(names)) or len(names) < 2:
        raise VesaliusError(f"wins {wins.shape} and ties {ties.shape} of {len(names)} kinds")
    if not np.array_equal(ties, ties.T):
        raise VesaliusError("a tie of two kinds counts in both their cells")
    _check_connected(wins + ties, names)
    values, nu = (each[0] for each in _fit(wins[None], ties[None]))
    judged = int(wins.sum() + ties.sum() / 2)
    return Worths(names, values, float(nu), _log_likelihood(wins, ties, values, nu), judged=judged)


def worths(choices: Sequence[Choice], seed: int = 0) -> Worths:
    """The fit of `choices` with bootstrap intervals over readers and cases.

    Pairs of one kind, such as real beside real, say nothing here.
    A replicate may lack a win that the fit rests on, so each pair of kinds that was shown gets half a
    win either way there, and none in the fit itself.
    """
    choices = [choice for choice in choices if choice.left != choice.right]
    names = tuple(sorted({name for choice in choices for name in (choice.left, choice.right)}))
    if len(names) < 2:
        raise VesaliusError("a preference needs choices between two kinds")
    wins, ties = _tables(choices, names)
    found = davidson(wins.sum(0), ties.sum(0), names)
    levels = _levels(choices)  # cases, readers, choices
    drawn = [_replicates(wins, ties, units, seed) for units in levels]
    over = [special.logit(each).var(0, ddof=1) for each in drawn]  # (K,) each
    cases, readers, _ = (int(units.max()) + 1 for units in levels)
    general, reach = readers >= LEAST_READERS, np.zeros(len(names))
    for k in range(len(names)):
        by_readers = over[1][k] * readers / (readers - 1) if general else None
        spread = Spread(over[0][k], by_readers, over[2][k], max(1, cases - 1), readers)
        variance, freedom = spread.variance("both")
        freedom = freedom if general else math.inf
        reach[k] = student_quantile((1 + LEVEL) / 2, freedom) * math.sqrt(variance)
    middle = special.logit(found.values)
    low, high = special.expit(middle - reach), special.expit(middle + reach)
    scope: Scope = "readers and cases" if general else "these readers only"
    return replace(found, low=low, high=high, scope=scope)


def _tables(choices: Sequence[Choice], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The wins and ties of each choice, (N, K, K) each."""
    place = {name: k for k, name in enumerate(names)}
    wins, ties = np.zeros((2, len(choices), len(names), len(names)))
    for k, choice in enumerate(choices):
        left, right = place[choice.left], place[choice.right]
        if choice.chosen is None:
            ties[k, left, right] = ties[k, right, left] = 1
        elif choice.chosen == "left":
            wins[k, left, right] = 1
        else:
            wins[k, right, left] = 1
    return wins, ties


def _levels(choices: Sequence[Choice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The case, the reader and the number of each choice, (N,), as integers."""
    cases = {case: k for k, case in enumerate(dict.fromkeys(c.case for c in choices))}
    readers = {reader: k for k, reader in enumerate(dict.fromkeys(c.reader for c in choices))}
    return (
        np.array([cases[c.case] for c in choices]),
        np.array([readers[c.reader] for c in choices]),
        np.arange(len(choices)),
    )


def _replicates(wins: np.ndarray, ties: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """The worths (R, K) of `wins` and `ties` (N, K, K) when their `units` (N,) are drawn with replacement."""
    rng, count, kinds = np.random.default_rng(seed), int(units.max()) + 1, wins.shape[1]
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES)[:, units]
    shown = (wins + ties).sum(0)
    smoothing = _SMOOTHING * ((shown + shown.T) > 0)
    won, tied = (
        (drawn @ each.reshape(-1, kinds**2)).reshape(-1, kinds, kinds) for each in (wins, ties)
    )
    return _fit(won + smoothing, tied)[0]


def _check_connected(better: np.ndarray, names: Sequence[str]) -> None:
    """Every kind must beat or tie each other one, if by way of others."""
    reach = (better > 0) | np.eye(len(better), dtype=bool)
    for _ in names:
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    if not reach.all():
        below, above = (names[k] for k in np.argwhere(~reach)[0])
        raise VesaliusError(
            f"{below} never won or tied against {above}, nor against one that did: worths are not "
            "defined; report the counts"
        )


def _fit(wins: np.ndarray, ties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Worths (R, K) and nu (R,) of R tables (R, K, K), by Newton's steps on their logarithms.

    In log pi and log nu the likelihood is concave. A step is halved while it lowers the likelihood.
    """
    count, kinds = len(wins), wins.shape[1]
    shown = wins + np.swapaxes(wins, 1, 2) + ties  # (R, K, K), symmetric
    won, tied = wins.sum(2) + ties.sum(2) / 2, ties.sum((1, 2)) / 2
    has_ties = tied > 0
    at = np.zeros((count, kinds + 1))
    at[:, -1] = np.where(has_ties, 0, -np.inf)
    value = _value(at, won, tied, shown)
    for _ in range(100):
        step, slope = _newton(at, won, tied, shown)
        if np.abs(slope).max() < 1e-9 * max(1.0, float(shown.max())):
            break
        size = np.ones(count)
        trial, after = at + step, _value(at + step, won, tied, shown)
        while (worse := (after < value - 1e-12 * np.abs(value)) & (size > 1e-9)).any():
            size = np.where(worse, size / 2, size)
            trial = at + size[:, None] * step
            after = _value(trial, won, tied, shown)
        at, value = trial, after
    pi = np.exp(at[:, :-1] - at[:, :-1].max(1, keepdims=True))
    return pi / pi.sum(1, keepdims=True), np.exp(at[:, -1])


def _chances(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(row before column) and P(tie), (R, K, K), and nothing of a kind with itself."""
    log_pi, log_nu = at[:, :-1], at[:, -1]
    apart = (log_pi[:, :, None] - log_pi[:, None]) / 2
    total = np.exp(apart) + np.exp(-apart) + np.exp(log_nu)[:, None, None]
    return np.exp(apart) / total, np.exp(log_nu)[:, None, None] / total


def _value(at: np.ndarray, won: np.ndarray, tied: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The log-likelihood of each table, (R,)."""
    log_pi, nu = at[:, :-1], np.exp(at[:, -1])
    apart = (log_pi[:, :, None] - log_pi[:, None]) / 2
    total = np.log(np.exp(apart) + np.exp(-apart) + nu[:, None, None])
    mean = (log_pi[:, :, None] + log_pi[:, None]) / 2
    of_nu = np.where(tied > 0, tied * np.where(tied > 0, at[:, -1], 0), 0)
    return (won * log_pi).sum(1) + of_nu - (shown * (total + mean)).sum((1, 2)) / 2


def _newton(
    at: np.ndarray, won: np.ndarray, tied: np.ndarray, shown: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The step and the slope, (R, K + 1) each."""
    kinds = at.shape[1] - 1
    first, tie = _chances(at)
    half = first + tie / 2  # what log pi of the row gains from an outcome, on average
    slope = np.concatenate(
        [
            won - (shown * half).sum(2),
            (tied - (shown * tie).sum((1, 2)) / 2)[:, None],
        ],
        axis=1,
    )
    # the information: the covariance of (gain of row, gain of column, tie) summed over pairs
    spread = shown * (first + tie / 4 - half**2)
    with_tie = shown * (tie / 2 - half * tie)
    information = np.zeros((len(at), kinds + 1, kinds + 1))
    information[:, :kinds, :kinds] = -spread
    diagonal = np.arange(kinds)
    information[:, diagonal, diagonal] += spread.sum(2)
    information[:, :kinds, kinds] = information[:, kinds, :kinds] = with_tie.sum(2)
    information[:, kinds, kinds] = (shown * tie * (1 - tie)).sum((1, 2)) / 2
    information[:, :kinds, :kinds] += 1 / kinds  # worths are known up to a factor
    information[:, kinds, kinds] += tied == 0
    return np.linalg.solve(information, slope[..., None])[..., 0], slope


def _log_likelihood(wins: np.ndarray, ties: np.ndarray, values: np.ndarray, nu: float) -> float:
    at = np.append(np.log(values), np.log(nu) if nu > 0 else -np.inf)[None]
    first, tie = (each[0] for each in _chances(at))
    with np.errstate(divide="ignore", invalid="ignore"):
        of_wins = np.where(wins > 0, wins * np.log(first), 0).sum()
        of_ties = np.where(ties > 0, ties * np.log(tie), 0).sum() / 2
    return float(of_wins + of_ties)
