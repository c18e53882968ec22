"""Do readers agree, with each other and with themselves, beyond chance?

    coefficient = (observed - expected) / (1 - expected)

What is expected by chance is where the coefficients differ: each reader's own habits (Cohen 1960),
the habits of all together (Fleiss 1971; Krippendorff 2011, who corrects for small samples), or what
readers who are unsure would do (Gwet 2008), which stays sensible where nearly all cases are of one
kind. A low kappa beside a high agreement is such a case, so the observed agreement is always given.

Ratings are (units, raters): numbers, NaN where there is none. Intervals are over cases: what these
readers would agree on other cases.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.grouped import in_parts
from vesalius.statistics.intervals import LEVEL
from vesalius.statistics.paired import student_quantile
from vesalius.statistics.roc import REPLICATES

Weights = Literal["nominal", "linear", "quadratic"]
Scale = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Agreement:
    """A coefficient with its 95 % interval over cases, and the share of pairs that agree.

    What is None could not be computed: all answers are alike, or too few cases were judged twice.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    observed: float | None
    units: int  # judged at least twice
    se: float | None = None

    def __repr__(self) -> str:
        if self.value is None:
            return f"{self.name}: none ({self.units} cases judged twice)"
        reach = "" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.name} {self.value:.3f}{reach}, {self.units} cases"


def table(
    first: np.ndarray, second: np.ndarray, categories: Sequence[float] | None = None
) -> np.ndarray:
    """How often each answer of one meets each of the other, (K, K); a missing one is left out.

    `categories` are all answers that could be given, in order; without, those that were. Weights
    need them all: between 2 and 4 lies a 3 that nobody may have given.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    values = _categories(np.stack([first[both], second[both]]), categories)
    counts = np.zeros((len(values), len(values)), int)
    rows, columns = (np.searchsorted(values, each[both]) for each in (first, second))
    np.add.at(counts, (rows, columns), 1)
    return counts


def cohen(counts: np.ndarray, weights: Weights = "nominal") -> Agreement:
    """Cohen's kappa of a table (K, K) of two readers' answers, categories in order.

    The standard error is the asymptotic one (Fleiss, Cohen and Everitt 1969). With `linear` and
    `quadratic` weights neighbouring categories agree in part.
    """
    p = np.asarray(counts, float)
    n, agree = int(p.sum()), _agreeing(len(p), weights)
    if not n:
        return Agreement(f"kappa ({weights})", None, None, None, None, 0)
    p = p / n
    rows, columns = p.sum(1), p.sum(0)
    seen, chance = float((agree * p).sum()), float(rows @ agree @ columns)
    if chance >= 1 - 1e-12:
        return Agreement(f"kappa ({weights})", None, None, None, float(np.trace(p)), n)
    kappa = (seen - chance) / (1 - chance)
    of_rows, of_columns = agree @ columns, rows @ agree
    spread = agree - (of_rows[:, None] + of_columns) * (1 - kappa)
    total = (p * spread**2).sum() - (kappa - chance * (1 - kappa)) ** 2
    se = math.sqrt(max(0.0, float(total)) / n) / (1 - chance)
    reach = student_quantile((1 + LEVEL) / 2, math.inf) * se
    low, high = max(-1.0, kappa - reach), min(1.0, kappa + reach)
    return Agreement(f"kappa ({weights})", kappa, low, high, float(np.trace(p)), n, se)


def fleiss(ratings: np.ndarray, seed: int = 0) -> Agreement:
    """Fleiss' kappa; units must have the same number of ratings, or use `krippendorff`."""
    counts = _counts(ratings)
    if len(set(counts.sum(1).tolist())) > 1:
        raise VesaliusError("Fleiss' kappa needs as many ratings of every case: use Krippendorff's")
    return _with_interval("Fleiss' kappa", counts, _fleiss, seed)


def krippendorff(ratings: np.ndarray, scale: Scale = "nominal", seed: int = 0) -> Agreement:
    """Krippendorff's alpha for any number of raters, with missing ratings."""
    values = np.unique(ratings[~np.isnan(ratings)])

    def alpha(counts: np.ndarray) -> np.ndarray:
        return _krippendorff(counts, values, scale)

    return _with_interval(f"alpha ({scale})", _counts(ratings), alpha, seed)


def gwet(
    ratings: np.ndarray, categories: Sequence[float] | None = None, seed: int = 0
) -> Agreement:
    """Gwet's AC1, with missing ratings; `categories` as in `table`."""
    return _with_interval("AC1", _counts(ratings, categories), _gwet, seed)


def repeated(
    first: np.ndarray,
    second: np.ndarray,
    weights: Weights = "nominal",
    categories: Sequence[float] | None = None,
) -> Agreement:
    """How one reader agrees with the own earlier answers, (N,) each: kappa and the share of same."""
    return cohen(table(np.asarray(first, float), np.asarray(second, float), categories), weights)


def _agreeing(count: int, weights: Weights) -> np.ndarray:
    """How far two categories agree, (K, K), from 0 to 1."""
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) / max(1, count - 1)
    return {"nominal": np.eye(count), "linear": 1 - apart, "quadratic": 1 - apart**2}[weights]


def _categories(ratings: np.ndarray, categories: Sequence[float] | None) -> np.ndarray:
    given = np.unique(ratings[~np.isnan(ratings)])
    if categories is None:
        return given
    if other := set(given.tolist()) - set(categories):
        raise VesaliusError(
            f"a rating of {min(other):g} is none of {', '.join(map(str, categories))}"
        )
    return np.sort(np.asarray(categories, float))


def _counts(ratings: np.ndarray, categories: Sequence[float] | None = None) -> np.ndarray:
    """How often each unit got each value, (U, K)."""
    ratings = np.asarray(ratings, float)
    if ratings.ndim != 2:
        raise VesaliusError("ratings are units x raters")
    return (ratings[..., None] == _categories(ratings, categories)).sum(1)


def _with_interval(
    name: str, counts: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int
) -> Agreement:
    """The statistic of counts (U, K), its interval by drawing units, and the agreement seen."""
    units = int((counts.sum(1) > 1).sum())
    if not units:
        return Agreement(name, None, None, None, None, 0)
    seen = float(_pairwise(counts)[counts.sum(1) > 1].mean())
    value = float(statistic(counts[None])[0])
    if not math.isfinite(value):
        return Agreement(name, None, None, None, seen, units)
    if units < 2:
        return Agreement(name, value, None, None, seen, units)
    rng = np.random.default_rng(seed)
    parts = in_parts(REPLICATES, counts.size)
    rows = (rng.integers(len(counts), size=(part, len(counts))) for part in parts)
    drawn = np.concatenate([statistic(counts[each]) for each in rows])
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Agreement(name, value, float(low), float(high), seen, units, float(np.nanstd(drawn)))


def _pairwise(counts: np.ndarray) -> np.ndarray:
    """The share of a unit's pairs of ratings that agree, (..., U); NaN of fewer than two."""
    number = counts.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (counts * (counts - 1)).sum(-1) / (number * (number - 1))


def _chance_corrected(seen: np.ndarray, chance: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1 - 1e-12, (seen - chance) / (1 - chance), np.nan)


def _fleiss(counts: np.ndarray) -> np.ndarray:
    share = counts.sum(-2) / counts.sum((-1, -2))[..., None]
    return _chance_corrected(_pairwise(counts).mean(-1), (share**2).sum(-1))


def _gwet(counts: np.ndarray) -> np.ndarray:
    number, categories = counts.sum(-1), counts.shape[-1]
    twice = number > 1  # of a replicate, perhaps none
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = np.where(twice, _pairwise(counts), 0).sum(-1) / twice.sum(-1)
        share = np.nanmean(counts / number[..., None], axis=-2)
    return _chance_corrected(seen, (share * (1 - share)).sum(-1) / max(1, categories - 1))


def _krippendorff(counts: np.ndarray, values: np.ndarray, scale: Scale) -> np.ndarray:
    """Of counts (R, U, K): 1 less observed over expected disagreement of coincidences."""
    number = counts.sum(-1)
    counts = np.where(number[..., None] > 1, counts, 0)
    weight = 1 / np.maximum(number - 1, 1)
    pairs = np.einsum("ruk,rul,ru->rkl", counts, counts, weight)
    diagonal = np.arange(len(values))
    pairs[:, diagonal, diagonal] -= np.einsum("ruk,ru->rk", counts, weight)
    total = pairs.sum(-1)  # (R, K) pairable values
    apart = _apart(total, values, scale)
    seen = (pairs * apart).sum((-1, -2))
    chance = np.einsum("rk,rl,rkl->r", total, total, apart) / (total.sum(-1) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance > 0, 1 - seen / chance, np.nan)


def _apart(total: np.ndarray, values: np.ndarray, scale: Scale) -> np.ndarray:
    """The squared difference of two values, (R, K, K); of ordinal ones, of ranks."""
    if scale == "nominal":
        return np.broadcast_to(1 - np.eye(len(values)), (len(total), len(values), len(values)))
    place = np.cumsum(total, axis=-1) - total / 2 if scale == "ordinal" else values[None]
    return np.broadcast_to(
        (place[:, :, None] - place[:, None]) ** 2, (len(total), len(values), len(values))
    )
