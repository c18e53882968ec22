"""How sure a score is: over test images, over seeds, or over both.

An interval over images alone takes the trained models for fixed: it says what *these* models do on
other patients. One over seeds alone takes the test images for fixed: it says what other trainings do
on *these* patients. Only `over="both"` says what another training does on other patients;
`vesalius.statistics.paired` has the reasoning.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vesalius.statistics.figure import Figure
from vesalius.statistics.grouped import group_weights, in_parts
from vesalius.statistics.intervals import LEVEL
from vesalius.statistics.paired import Over, spread, student_quantile
from vesalius.statistics.roc import REPLICATES
from vesalius.statistics.roc import interval as bootstrap_interval
from vesalius.utility.scores import (
    LOWER_IS_BETTER,
    MEANS_OVER_IMAGES,
    Truth,
    by_seed,
    predictions,
    score,
)

_ROUNDING = 1e-24  # the variance of replicates that differ in their last bits alone


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


def freedom(truth: Truth) -> int:
    """Groups less strata: the degrees of freedom of a variance over images."""
    of_group = strata(truth)
    return len(of_group) - int(of_group.max()) - 1


def lone_patient(truth: Truth, name: str, of: str | None = None) -> str:
    """Why the score `name` has no interval: one patient is all that a class has; "" where none is.

    Whatever is drawn, that patient is in it, so that the spread of replicates, and DeLong's variance,
    are far too small. `of` is the class, None for the whole task.
    """
    if name in MEANS_OVER_IMAGES:
        return ""
    for column in truth.scored if of is None else [truth.column(of)]:
        of_class = truth.positive[:, column]
        for shown, which in ((of_class, "of"), (~of_class, "not of")):
            patients, folds = (len(np.unique(x[shown])) for x in (truth.groups, truth.folds))
            if patients and patients - folds < 1:
                name = truth.classes[column]
                return f"one test patient alone is {which} the class {name}: no interval"
    return ""


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
    rng, of_group = np.random.default_rng(seed), strata(truth)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for part in in_parts(times, len(truth)):
        w = group_weights(of_group, truth.groups, part, rng)
        for name in names:
            found = [[score(name, truth, p, w, of) for p in arm] for arm in arms]
            parts[name].append(np.swapaxes(np.array(found), 1, 2))
    return {name: np.concatenate(each, axis=1) for name, each in parts.items()}


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
    score, which every replicate repeats, gets the exact bound of as many trials as there are groups, of
    the rarest class for a mean over classes.
    A score that the images do not allow, or an interval, is None, and `note` says why.
    """
    p = predictions(truth, probabilities)
    drawn = replicates(truth, [p], names, of=of, times=times, seed=seed)
    return {
        name: _figure((name, of), truth, by_seed(name, truth, p, of), drawn[name][0], over)
        for name in names
    }


def _figure(
    asked: tuple[str, str | None], truth: Truth, values: np.ndarray, drawn: np.ndarray, over: Over
) -> Figure:
    """The figure of what was `asked`: a score, and the class that it is of."""
    name, of = asked
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
    if over != "seeds" and (lone := lone_patient(truth, name, of)):
        return replace(figure, note=lone)
    found = spread(values, drawn, freedom(truth))
    variance, degrees = found.variance(over)
    note = "one seed: how far other trainings differ is not in the interval"
    note = note if over == "both" and len(values) == 1 else ""
    if over == "seeds":
        reach = student_quantile((1 + LEVEL) / 2, degrees) * math.sqrt(variance)
        low, high = value - reach, value + reach
    elif found.images < _ROUNDING:
        if value not in (0, 1) or name in LOWER_IS_BETTER:
            return replace(figure, note="every patient scores alike: no interval")
        low, high = bootstrap_interval(value, usable, _trials(truth, name, of))
    else:
        edges = np.quantile(usable, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        z = student_quantile((1 + LEVEL) / 2, math.inf)
        wide = math.sqrt(variance / found.images)
        wide *= 1 if over == "images" else student_quantile((1 + LEVEL) / 2, degrees) / z
        low, high = value + (edges - usable.mean()) * wide
    most = math.inf if name == "log_loss" or name == "brier" else 1.0
    return replace(figure, low=max(0.0, float(low)), high=min(most, float(high)), note=note)


def _trials(truth: Truth, name: str, of: str | None) -> int:
    """How many independent throws a score of 0 or 1 stands for: patients, of the rarest class."""
    if name in MEANS_OVER_IMAGES:
        return len(np.unique(truth.groups))
    columns = truth.scored if of is None else [truth.column(of)]
    kinds = [kind for c in columns for kind in (truth.positive[:, c], ~truth.positive[:, c])]
    return min(len(np.unique(truth.groups[kind])) for kind in kinds if kind.any())
