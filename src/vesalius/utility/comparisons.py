"""Is one arm better than another? A difference, its interval, p, and p corrected for all that was asked.

Both arms are judged on the same test images, seed s of one beside seed s of the other. Which chance
the answer covers is `over`; `vesalius.statistics.paired` has the reasoning:

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
from typing import Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.corrections import corrected
from vesalius.statistics.paired import (
    Over,
    Spread,
    influence,
    mcnemar,
    over_folds,
    permutation_test,
    spread,
    spread_of_errors,
    student_test,
)
from vesalius.statistics.roc import REPLICATES
from vesalius.utility.intervals import freedom, lone_patient, replicates
from vesalius.utility.scores import Truth, by_seed, decisions, predictions, score

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


def compare(
    truth: Truth,
    arms: Mapping[str, np.ndarray],
    against: str,
    *,
    names: Sequence[str] = ("auroc",),
    over: Over = "both",
    test: Test | None = None,
    times: int = REPLICATES,
    seed: int = 0,
) -> list[Comparison]:
    """Every other arm less the arm `against`, in each score of `names`; p corrected by Holm.

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

    first = ready.pop(against)
    tests = {name: test or ("delong" if name == "auroc" else "bootstrap") for name in names}
    need = [name for name in names if tests[name] != "delong"]
    every = [first, *ready.values()]
    drawn = replicates(truth, every, need, times=times, seed=seed) if need else {}
    made: list[Comparison] = []
    for name in names:
        for number, (other, second) in enumerate(ready.items(), start=1):
            gains = by_seed(name, truth, second) - by_seed(name, truth, first)
            if tests[name] == "delong":
                found = delong(truth, first, second)
            else:
                found = spread(gains, drawn[name][number] - drawn[name][0], freedom(truth))
            blank = _blank(truth, (against, other, name), len(gains), over)
            lone = lone_patient(truth, name) if over != "seeds" else ""
            if lone and np.isfinite(gains).all():
                result = replace(blank, difference=float(gains.mean()), note=lone)
            else:
                result = _judged(blank, gains, found)
            result = replace(result, test=tests[name])
            if result.p is not None and test == "permutation":
                p = permutation(truth, first, second, name, times=times, seed=seed)
                result = replace(result, p=p)
            if result.p is not None and test == "mcnemar":
                _, mid = mcnemar(*disagreements(truth, first, second))
                result = replace(result, p=mid, note="of each arm's ensemble")
            made.append(result)
    return _corrected(made)


def compare_folds(
    truth: Truth, gains: Mapping[str, np.ndarray], against: str, name: str, *, test_share: float
) -> list[Comparison]:
    """Arms of a repeated k-fold by their gains over `against`, (seeds, folds) each.

    `truth` is of the images of all folds, `test_share` is test images over training images of a
    fold. See `statistics.paired.over_folds`.
    """
    made: list[Comparison] = []
    for other, each in gains.items():
        blank = _blank(truth, (against, other, name), len(each), "seeds and folds")
        result = _by_student(blank, *over_folds(each, test_share))
        made.append(replace(result, test="corrected resampled t"))
    return _corrected(made)


def delong(truth: Truth, first: np.ndarray, second: np.ndarray) -> Spread:
    """The variances of two arms' difference in AUROC, predictions (S, N, C), by DeLong's components.

    In one sort and without draws. With several seeds the AUROC is the mean of the seeds' AUROCs (what
    one training of the recipe is expected to reach), not that of their averaged predictions, which is
    another classifier. Of several classes it is the mean over them. Where each image is its own group
    this is the textbook's; else clustered.
    """
    (a, of_a), (b, of_b) = influences(truth, first), influences(truth, second)
    return spread_of_errors(b - a, of_b - of_a, freedom(truth))


def influences(truth: Truth, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The AUROC of each seed (S,), and each group's part of its error (S, G).

    Of several classes the mean over them, and of folds the mean over those. Images of one patient
    are added up before they are squared (Obuchowski 1997), classes likewise. NaN where the positives
    or the negatives are of one patient, whose chance nothing shows.
    """
    areas, errors = np.zeros(len(p)), np.zeros(p.shape[:2])
    folds = np.unique(truth.folds)
    for fold in folds:
        rows = np.flatnonzero(truth.folds == fold)
        y = truth.positive[rows]
        able = [c for c in truth.scored if y[:, c].any() and not y[:, c].all()]
        if not able:
            return np.full(len(p), np.nan), np.zeros((len(p), truth.groups.max() + 1))
        widened = {c: _by_patient(truth.groups[rows], y[:, c]) for c in able}
        for seed, column in ((s, c) for s in range(len(p)) for c in able):
            area, parts = influence(p[seed, rows, column], y[:, column])
            areas[seed] += area / len(able) / len(folds)
            errors[seed, rows] += parts * widened[column] / len(able) / len(folds)
    return areas, np.stack([np.bincount(truth.groups, row) for row in errors])


def _by_patient(groups: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """What makes DeLong's parts (N,) of m images those of I patients: m / (m - 1) is I / (I - 1) then."""
    factors = np.empty(len(groups))
    for kind in (positive, ~positive):
        m, patients = int(kind.sum()), len(np.unique(groups[kind]))
        square = patients * (m - 1) / ((patients - 1) * m) if patients > 1 else math.nan
        factors[kind] = math.sqrt(square)
    return factors


def disagreements(truth: Truth, first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Images that only the first arm, and only the second, gets right; for McNemar's test.

    Each arm decides by the mean of its seeds' predictions (S, N, C): one classifier, the ensemble.
    Raises VesaliusError for findings that do not exclude each other, which have no one decision an
    image, and for patients with several images, which are not independent.
    """
    if truth.kind == "multi-label":
        raise VesaliusError("McNemar's test needs one decision an image: compare findings by auroc")
    if len(np.unique(truth.groups)) < len(truth):
        raise VesaliusError(
            "McNemar's test takes images for independent and some are of one patient: "
            "use the permutation test, which swaps whole patients"
        )
    right = [(decisions(truth, p.mean(0)) & truth.positive).any(-1) for p in (first, second)]
    return int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())


def permutation(
    truth: Truth,
    first: np.ndarray,
    second: np.ndarray,
    name: str,
    *,
    times: int = 2 * REPLICATES,
    seed: int = 0,
) -> float:
    """The two-sided p of a score's difference when arms are swapped patient by patient.

    All seeds are swapped together: the models are taken for fixed, so this asks about these models
    on other patients.
    """
    twice = truth.rows(np.tile(np.arange(len(truth)), 2))
    pooled = np.concatenate([first, second], axis=1)

    def gain(swapped: np.ndarray) -> np.ndarray:
        here, there = np.hstack([1 - swapped, swapped]), np.hstack([swapped, 1 - swapped])
        return np.mean(
            [score(name, twice, p, there) - score(name, twice, p, here) for p in pooled], axis=0
        )

    return permutation_test(gain, truth.groups, times, seed)


def _corrected(made: list[Comparison]) -> list[Comparison]:
    ps = corrected([each.p for each in made])
    return [replace(each, p_corrected=p) for each, p in zip(made, ps, strict=True)]


def _blank(truth: Truth, names: tuple[str, str, str], seeds: int, over: str) -> Comparison:
    """A comparison of these images without a result; `names` of the first, the second, the score."""
    groups = len(np.unique(truth.groups))
    return Comparison(
        *names, None, *(None,) * 5, n=len(truth), groups=groups, seeds=seeds, over=over, test=""
    )


def _judged(blank: Comparison, gains: np.ndarray, found: Spread) -> Comparison:
    """Difference, interval and p of gains by seed (S,)."""
    mean = float(gains.mean())
    variance, degrees = found.variance(blank.over)  # pyright: ignore[reportArgumentType]
    if math.isfinite(mean) and (found.groups < 1 or not math.isfinite(variance)):
        return replace(blank, difference=mean, note="too few patients: no interval")
    result = _by_student(blank, mean, variance, degrees)
    if blank.over == "both" and found.seeds is None and not result.note:
        note = "one seed: how far other trainings differ is not in the interval"
        return replace(result, note=note)
    return result


def _by_student(blank: Comparison, mean: float, variance: float, degrees: float) -> Comparison:
    """Difference, interval and two-sided p by Student's t."""
    if not math.isfinite(mean):
        return replace(blank, note="a class has no image to score it by")
    blank = replace(blank, difference=mean)
    if variance <= 0:  # arms that say the same of every image differ by nothing, for certain
        note = "no patient and no seed differs: no interval"
        return replace(blank, p=1.0 if mean == 0 else None, note=note)
    return replace(blank, **asdict(student_test(mean, variance, degrees)))
