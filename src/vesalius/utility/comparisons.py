"""Is one arm better than another? A difference, its interval, p, and p corrected for all that was asked.

Both arms are judged on the same test images, seed s of one beside seed s of the other. Which chance
the answer covers is `over`; `intervals` has the reasoning:

    images  would these trained models differ on other patients? The trainings are taken for fixed: a
            lucky seed is taken for a better recipe.
    seeds   would other trainings of these recipes differ on these patients? The test images are
            taken for fixed: an arm that happens to suit them is taken for better.
    both    would another training of this recipe also help, on other patients? The default, and the
            only one that supports "synthetic images help".

With one seed `both` cannot be had: the answer is that of `images`, and its note says so. Of few seeds
it is unsure, by Student's t with as few degrees of freedom: five seeds are few.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.intervals import LEVEL
from vesalius.statistics.roc import REPLICATES
from vesalius.utility.intervals import (
    Over,
    Spread,
    replicates,
    spread,
    student_quantile,
    student_tail,
)
from vesalius.utility.paired import corrected, delong, mcnemar, over_folds, permutation
from vesalius.utility.scores import Truth, predictions, score

Test = Literal["bootstrap", "delong", "permutation", "mcnemar"]


@dataclass(frozen=True)
class Comparison:
    """The second arm less the first, in one score; what is None could not be had: see `note`."""

    first: str
    second: str
    score: str
    of: str | None  # the class, None for the whole task
    difference: float | None
    low: float | None  # 95 % interval
    high: float | None
    p: float | None  # two-sided
    p_corrected: float | None  # over all comparisons of the call
    n: int  # test images
    groups: int
    seeds: int
    over: str
    test: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(
    truth: Truth,
    arms: Mapping[str, np.ndarray],
    against: str,
    *,
    names: Sequence[str] = ("auroc",),
    of: str | None = None,
    over: Over = "both",
    test: Test | None = None,
    correction: Literal["holm", "bh"] = "holm",
    times: int = REPLICATES,
    seed: int = 0,
) -> list[Comparison]:
    """Every other arm less the arm `against`, in each score of `names`.

    `arms` holds predictions, (S, N, C) or what `predictions` takes, as many seeds in each. Without
    `test`, an AUROC is compared by DeLong's variance and any other score by the bootstrap's.
    `permutation` and `mcnemar` (of accuracy) give p by their own means, over images only; difference
    and interval are the bootstrap's over images.
    Raises VesaliusError where arms do not fit each other, the test or the labels.
    """
    if against not in arms:
        raise VesaliusError(f"no arm {against!r} to compare with: {', '.join(arms)}")
    ready = {name: predictions(truth, p) for name, p in arms.items()}
    if len({len(p) for p in ready.values()}) > 1:
        counts = ", ".join(f"{name} {len(p)}" for name, p in ready.items())
        raise VesaliusError(f"arms are compared seed by seed, and have unequal numbers: {counts}")
    if test in ("permutation", "mcnemar") and over != "images":
        raise VesaliusError(f"{test} takes the trained models for fixed: ask for it over images")
    for name in names:
        if (test == "delong" and name != "auroc") or (test == "mcnemar" and name != "accuracy"):
            raise VesaliusError(f"{test} cannot compare {name}: leave the test out")

    others = [name for name in ready if name != against]
    need = [name for name in names if (test or _usual(name)) != "delong"]
    every = [ready[against], *(ready[name] for name in others)]
    drawn = replicates(truth, every, need, of=of, times=times, seed=seed) if need else {}
    made: list[Comparison] = []
    for name in names:
        how = test or _usual(name)
        for number, other in enumerate(others, start=1):
            pair = ready[against], ready[other]
            gains = np.array(
                [
                    float((score(name, truth, b, of=of) - score(name, truth, a, of=of))[0])
                    for a, b in zip(*pair, strict=True)
                ]
            )
            if how == "delong":
                found = delong(truth, *pair, of).spread
            else:
                found = spread(truth, gains, drawn[name][number] - drawn[name][0])
            result = _judged(truth, gains, found, over)
            result = replace(result, first=against, second=other, score=name, of=of, test=how)
            if result.p is not None and how == "permutation":
                p = permutation(truth, *pair, name, of=of, times=times, seed=seed)
                result = replace(result, p=p)
            if result.p is not None and how == "mcnemar":
                result = replace(result, p=mcnemar(truth, *pair).mid, note="of each arm's ensemble")
            made.append(result)
    return _corrected(made, correction)


def compare_folds(
    truth: Truth,
    gains: Mapping[str, np.ndarray],
    against: str,
    name: str,
    *,
    test_share: float,
    correction: Literal["holm", "bh"] = "holm",
) -> list[Comparison]:
    """Arms of a repeated k-fold by their gains over `against`, (seeds, folds) each.

    `truth` is of the images of all folds, `test_share` is test images over training images of a
    fold. See `paired.over_folds`.
    """
    made: list[Comparison] = []
    for other, each in gains.items():
        blank = _blank(truth, len(each), "seeds and folds")
        result = _told(blank, *over_folds(each, test_share))
        test = "corrected resampled t"
        made.append(replace(result, first=against, second=other, score=name, test=test))
    return _corrected(made, correction)


def _corrected(made: list[Comparison], method: Literal["holm", "bh"]) -> list[Comparison]:
    ps = corrected([math.nan if each.p is None else each.p for each in made], method)
    return [
        replace(each, p_corrected=None if each.p is None else p)
        for each, p in zip(made, ps, strict=True)
    ]


def _usual(name: str) -> Test:
    return "delong" if name == "auroc" else "bootstrap"


def _blank(truth: Truth, seeds: int, over: str) -> Comparison:
    """A comparison of these images, without names and without a result."""
    return Comparison(
        *("", "", "", None),
        *(None, None, None, None, None),
        n=len(truth),
        groups=len(np.unique(truth.groups)),
        seeds=seeds,
        over=over,
        test="",
    )


def _judged(truth: Truth, gains: np.ndarray, found: Spread, over: Over) -> Comparison:
    """Difference, interval and p of gains by seed (S,); names are left for the caller."""
    blank, mean = _blank(truth, len(gains), over), float(gains.mean())
    if not math.isfinite(mean):
        return replace(blank, note="a class has no image to score it by")
    variance, degrees = found.variance(over)
    if found.groups < 1 or not math.isfinite(variance):
        return replace(blank, difference=mean, note="too few patients: no interval")
    told = _told(blank, mean, variance, degrees)
    if over == "both" and found.seeds is None and not told.note:
        note = "one seed: how far other trainings differ is not in the interval"
        return replace(told, note=note)
    return told


def _told(blank: Comparison, mean: float, variance: float, degrees: float) -> Comparison:
    """Difference, interval and two-sided p by Student's t."""
    blank = replace(blank, difference=mean)
    if variance <= 0:  # arms that say the same of every image differ by nothing, for certain
        note = "no patient and no seed differs: no interval"
        return replace(blank, p=1.0 if mean == 0 else None, note=note)
    error = math.sqrt(variance)
    reach = student_quantile((1 + LEVEL) / 2, degrees) * error
    p = 2 * student_tail(abs(mean) / error, degrees)
    return replace(blank, low=mean - reach, high=mean + reach, p=p)
