"""From predictions to an answer: figures, tests corrected for their number, and one sentence.

Three families of comparisons, each corrected by itself over arms and amounts of real data (Holm):
`help`, arms with synthetic images against the real images alone; `worth`, the same against the best
arm without any, which costs nothing to try; `baselines`, the arms without against the real images.
The best arms, of either kind, are those that did best on validation: the test chooses nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vesalius.utility.arms import Arm
from vesalius.utility.comparisons import Comparison, compare, compare_folds
from vesalius.utility.intervals import figures
from vesalius.utility.paired import corrected
from vesalius.utility.scores import OVERALL, Truth, score
from vesalius.utility.subgroups import attributes, equality

PRIMARY = "auroc"
TESTED = ("auroc", "aupr", "balanced_accuracy", "macro_f1")
BY_CLASS = ("auroc", "aupr")
SURE = 0.05
Family = Literal["help", "worth", "baselines"]


@dataclass(frozen=True)
class Run:
    """An arm, trained with every seed on every fold."""

    arm: Arm
    probabilities: np.ndarray  # (S, N, C) of all test images
    validation: np.ndarray  # (folds, S) AUROC of the chosen classifiers
    real: int  # images, of a fold
    synthetic: int
    seconds: float
    chosen: list[dict[str, float]]
    note: str = ""


Runs = Mapping[str, Run]  # by the arm's name


@dataclass(frozen=True)
class Judged:
    """What was found with one amount of real data."""

    budget: str
    arms: dict[str, dict[str, Any]]
    comparisons: list[tuple[Family, Comparison]]
    best: str | None  # of the arms with synthetic images, by validation; None where there is none
    baseline: str  # of those without


def judge(
    truth: Truth, runs: Runs, budget: str, *, test_share: float, times: int, seed: int = 0
) -> Judged:
    """Figures of every arm and the comparisons between them; p is corrected later, over budgets."""
    arms: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        p = run.probabilities
        every = figures(truth, p, list(OVERALL), times=times, seed=seed)
        several = truth.classes if truth.kind != "binary" else truth.classes[1:]
        of_class = {
            of: figures(truth, p, list(BY_CLASS), of=of, times=times, seed=seed) for of in several
        }
        arms[name] = {
            "figures": {k: figure.as_dict() for k, figure in every.items()},
            "classes": {
                of: {k: figure.as_dict() for k, figure in each.items()}
                for of, each in of_class.items()
            },
        }
    with_synthetic = [name for name, run in runs.items() if run.arm.uses_synthetic]
    without = [name for name in runs if name not in with_synthetic]
    best, baseline = _best(runs, with_synthetic), _best(runs, without) or "real"
    asked: dict[Family, tuple[str, list[str]]] = {
        "help": ("real", with_synthetic),
        "baselines": ("real", [name for name in without if name != "real"]),
        "worth": (baseline, with_synthetic if baseline != "real" else []),
    }
    found: list[tuple[Family, Comparison]] = []
    for family, (against, others) in asked.items():
        if others:
            some = {name: runs[name].probabilities for name in (against, *others)}
            made = _compared(truth, some, against, test_share, times, seed)
            found.extend((family, comparison) for comparison in made)
    return Judged(budget, arms, found, best, baseline)


def _best(runs: Runs, names: Sequence[str]) -> str | None:
    return max(names, key=lambda name: float(runs[name].validation.mean()), default=None)


def _compared(
    truth: Truth,
    arms: Mapping[str, np.ndarray],
    against: str,
    test_share: float,
    times: int,
    seed: int,
) -> list[Comparison]:
    folds = np.unique(truth.folds)
    if len(folds) == 1:
        return compare(truth, arms, against, names=TESTED, times=times, seed=seed)
    made = []
    for name in TESTED:
        by_fold = {
            arm: np.array(
                [
                    [float(score(name, truth.rows(truth.folds == k), each[truth.folds == k])[0])
                     for k in folds]
                    for each in p
                ]
            )
            for arm, p in arms.items()
        }  # fmt: skip
        gains = {arm: each - by_fold[against] for arm, each in by_fold.items() if arm != against}
        made += compare_folds(truth, gains, against, name, test_share=test_share)
    return made


def correct(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """All comparisons as JSON; p corrected within each family and score, over all budgets."""
    flat = [(each.budget, family, c) for each in judged for family, c in each.comparisons]
    kept: dict[int, Comparison] = {}
    for family, name in {(family, c.score) for _, family, c in flat}:
        places = [k for k, (_, f, c) in enumerate(flat) if (f, c.score) == (family, name)]
        ps = corrected([math.nan if (p := flat[k][2].p) is None else p for k in places])
        for k, p in zip(places, ps, strict=True):
            kept[k] = replace(flat[k][2], p_corrected=None if math.isnan(p) else p)
    return [
        {"budget": budget, "family": family, **kept[k].as_dict()}
        for k, (budget, family, _) in enumerate(flat)
    ]


def fairness(
    truth: Truth, runs: Runs, names: Sequence[str], columns: Mapping[str, Sequence[str]], times: int
) -> list[dict[str, Any]]:
    """AUROC of the arms `names` in each subgroup that the test images' columns make."""
    found = []
    for attribute, values in attributes(columns).items():
        for name in dict.fromkeys(names):
            p = runs[name].probabilities
            made = equality(truth, p, attribute, values, name=PRIMARY, times=times)
            found.append({"arm": name, **made.as_dict()})
    return found


def verdict(last: Judged, comparisons: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    """Did it help, by how much, how sure: for the arm that validation chose.

    `last` is of the most real images with which an arm has synthetic ones, too.
    """
    if last.best is None:
        raise ValueError(f"with {last.budget} no arm has a synthetic image")
    own = [c for c in comparisons if c["budget"] == last.budget and c["score"] == PRIMARY]
    by_family = {c["family"]: c for c in own if c["second"] == last.best}
    gain, worth = by_family["help"], by_family.get("worth")
    value, base = (_value(last, name) for name in (last.best, "real"))
    answer = _answer(gain, worth)
    told = (
        f"{_SAID[answer]}: with {last.budget} of the real training images, {last.best} (the arm that "
        f"validation chose) reached an AUROC of {_number(value)} and real images alone "
        f"{_number(base)}, a difference of {_difference(gain)}, on {n:,} real test images"
    )
    if worth is not None:
        told += f"; against {last.baseline}, the best arm without synthetic images, {_difference(worth)}"
    return {"answer": answer, "headline": told + ".", "arm": last.best, "baseline": last.baseline,
            "budget": last.budget, "difference": gain["difference"], "low": gain["low"],
            "high": gain["high"], "p_corrected": gain["p_corrected"]}  # fmt: skip


_SAID = {
    "helped": "The synthetic images helped",
    "no more than a baseline": "The synthetic images helped, but not by more than what needs none",
    "not shown": "No gain from the synthetic images was shown",
    "harmed": "The synthetic images did harm",
}


def _answer(gain: Mapping[str, Any], worth: Mapping[str, Any] | None) -> str:
    if gain["p_corrected"] is None or gain["p_corrected"] >= SURE:
        return "not shown"
    if gain["difference"] < 0:
        return "harmed"
    sure = worth is None or (
        worth["difference"] > 0 and worth["p_corrected"] is not None and worth["p_corrected"] < SURE
    )
    return "helped" if sure else "no more than a baseline"


def _value(judged: Judged, name: str) -> float | None:
    return judged.arms[name]["figures"][PRIMARY]["value"]


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.3f}"


def _difference(c: Mapping[str, Any]) -> str:
    if c["difference"] is None:
        return "no value"
    told = f"{round(c['difference'], 3) + 0.0:+.3f}"  # a rounded zero is not negative
    if c["low"] is None:
        return f"{told} ({c['note']})"
    p = c["p_corrected"]
    sure = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    return f"{told} (95 % interval {c['low']:+.3f} to {c['high']:+.3f}, corrected p {sure})"
