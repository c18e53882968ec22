"""Three ways in which a synthetic set may point at a person, each beside people it never saw.

A risk is what an attack gains on those who were trained on over those who were not (Giomi et al. 2023,
arXiv:2211.10459):

    (r_train - r_control) / (1 - r_control)

where r is how often the attack is right: 0 is nothing gained, 1 is always right, and what could be
guessed of anybody is in both. Everything is by distances between images; people come in pairs, of which
one was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics import intervals
from vesalius.statistics.figure import Figure
from vesalius.statistics.share import Share

LEAST = 10  # pairs of people
_HELD = 2**23  # distances that are held at once
_PARTITIONS = 10  # of the pairs, for singling out


@dataclass(frozen=True)
class Rates:
    """How often an attack was right of each unit (P,): on those trained on, and on the others."""

    train: np.ndarray
    control: np.ndarray


def gain(train: float, control: float) -> float:
    """(r_train - r_control) / (1 - r_control); nan where nothing is left to gain."""
    return (train - control) / (1 - control) if control < 1 else float("nan")


def risk(name: str, rates: Rates) -> Figure:
    """The gain with its interval, which is that of a ratio: 1 - gain is (1 - r_train) / (1 - r_control).

    Raises VesaliusError for under 10 pairs, and where the attack is always right on those it never saw.
    """
    pairs = len(rates.train)
    if pairs < LEAST:
        raise VesaliusError(f"{pairs} pairs of patients: a risk needs {LEAST}")
    train, control = float(rates.train.mean()), float(rates.control.mean())
    if control >= 1:
        raise VesaliusError(
            "the attack is always right on held-out patients: nothing can be gained"
        )
    low, high = _ratio_interval(1 - train, 1 - control, pairs)
    return _figure(name, (train, control), (1 - high, 1 - low), pairs)


def _ratio_interval(over: float, under: float, n: int) -> tuple[float, float]:
    """The 95 % interval of the ratio of two rates of n each, from that of each (Donner and Zou 2012).

    Those are Wilson's, so that a rate of 0 is not taken for certain, as a bootstrap would. A mean of n
    numbers between 0 and 1 varies no more than a rate.
    """
    (l1, u1), (l2, u2) = (Share(rate * n, n).interval for rate in (over, under))
    both = over * under
    below = sqrt(max(0.0, both**2 - l1 * u2 * (2 * over - l1) * (2 * under - u2)))
    above = sqrt(max(0.0, both**2 - u1 * l2 * (2 * over - u1) * (2 * under - l2)))
    low = l1 * (2 * over - l1) / (both + below) if over else 0.0
    return low, (both + above) / (l2 * (2 * under - l2))


def _figure(
    name: str,
    rates: tuple[float, float],
    interval: tuple[float | None, float | None],
    pairs: int,
) -> Figure:
    return Figure(
        name, gain(*rates), *interval, n=pairs, n_real=2 * pairs,
        note=f"right on {rates[0]:.1%} of those trained on, {rates[1]:.1%} of the others",
        details={"train": rates[0], "control": rates[1]},
    )  # fmt: skip


def nearest(a: np.ndarray, b: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Distances (P, N) of N rows `a` to the nearest of each group's rows of `b`."""
    found, start = np.empty((len(groups), len(a))), 0
    while start < len(groups):
        stop, count = start + 1, len(groups[start])
        while stop < len(groups) and (count + len(groups[stop])) * len(a) <= _HELD:
            count, stop = count + len(groups[stop]), stop + 1
        some = [list(rows) for rows in groups[start:stop]]
        firsts = np.cumsum([0, *map(len, some[:-1])])
        apart = _distances(a, b[[row for rows in some for row in rows]])
        found[start:stop] = np.minimum.reduceat(apart, firsts, axis=1).T
        start = stop
    return found


def closest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which of the rows `a` is nearest to each of the M rows `b`: (M,) int64."""
    step = max(1, _HELD // len(a))
    parts = [_distances(a, b[k : k + step]).argmin(0) for k in range(0, len(b), step)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) of (N, D) and (M, D)."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))


def singling_out(train: np.ndarray, control: np.ndarray, seed: int = 0) -> Figure:
    """Does a synthetic image pick out exactly one person?

    `train` and `control` (P, N) are distances of each of P people of both kinds to N synthetic images.
    The predicate "nearer to this synthetic image than t" is set so that it fires on one in n new people
    (t is the smallest distance of n held-out people apart); it is right where it fires on exactly one
    of n people who were trained on, or of n held-out ones. Of new images 1 in 4 is; a set of nothing but
    copies reaches 3 in 8, a gain of 1/6, for the people are halved and a predicate fires on others too. n is
    half of P; the figure is the
    mean over several partitions, and its interval is by subsampling people and synthetic images.
    Raises VesaliusError for under 20 pairs.
    """
    pairs, images = train.shape
    half = pairs // 2
    if half < LEAST:
        raise VesaliusError(f"{pairs} pairs of patients: singling out needs {2 * LEAST}")
    rates = _isolated(train, control, seed)
    if rates[1] >= 1:
        raise VesaliusError("every predicate singles out a held-out patient: nothing can be gained")

    def some(people: np.ndarray, made: np.ndarray) -> dict[str, float]:
        inner = np.ix_(people, made)
        return {"gain": gain(*_isolated(train[inner], control[inner], seed))}

    several, fraction = intervals.replicate(some, (pairs, images), seed=seed)
    low, high = None, None
    if several:
        low, high = intervals.interval(gain(*rates), several["gain"], fraction)
    return _figure("singling_out", rates, (low, high), pairs)


def _isolated(train: np.ndarray, control: np.ndarray, seed: int) -> tuple[float, float]:
    """How often a synthetic image isolates one of the people of each kind, over several partitions."""
    rng, half = np.random.default_rng(seed), len(train) // 2
    found = []
    for _ in range(_PARTITIONS):
        order = rng.permutation(len(train))
        asked, apart = order[:half], order[half : 2 * half]
        limit = control[apart].min(0)
        found.append([((side[asked] < limit).sum(0) == 1).mean() for side in (train, control)])
    first, second = np.mean(found, 0).tolist()
    return first, second
