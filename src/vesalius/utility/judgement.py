"""From predictions to an answer: figures, tests corrected for their number, and one sentence.

Three families of comparisons, each corrected by itself over arms and amounts of real data (Holm):
`help`, arms with synthetic images against the real images alone; `worth`, the same against the best
arm without any, which costs nothing to try; `baselines`, the arms without against the real images.
The best arms, of either kind, are those that did best on validation: the test chooses nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from vesalius.core.progress import Count
from vesalius.statistics.corrections import corrected
from vesalius.statistics.figure import Figure
from vesalius.utility.comparisons import Comparison, compare, compare_folds
from vesalius.utility.folds import Fold
from vesalius.utility.grid import Runs
from vesalius.utility.intervals import figures
from vesalius.utility.pool import Pool
from vesalius.utility.scores import OVERALL, Truth, by_seed, truth_of
from vesalius.utility.subgroups import Equality, attributes, equality

PRIMARY = "auroc"
TESTED = ("auroc", "aupr", "balanced_accuracy", "macro_f1")
BY_CLASS = ("auroc", "aupr")
SURE = 0.05
Family = Literal["help", "worth", "baselines"]


@dataclass(frozen=True)
class ArmScores:
    """Every score of an arm with its interval, of the whole task and of each class."""

    figures: dict[str, Figure]
    classes: dict[str, dict[str, Figure]]


@dataclass(frozen=True)
class Asked:
    """A comparison, and what it answers."""

    budget: str
    family: Family
    comparison: Comparison

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"budget": self.budget, "family": self.family, **asdict(self.comparison)}


@dataclass(frozen=True)
class Judged:
    """What was found with one amount of real data."""

    budget: str
    arms: dict[str, ArmScores]
    comparisons: list[Asked]
    best: str | None  # of the arms with synthetic images, by validation; None where there is none
    baseline: str  # of those without


@dataclass(frozen=True)
class Verdict:
    """Did it help, by how much, how sure: for the arm that validation chose."""

    answer: Literal["helped", "no more than a baseline", "not shown", "harmed"]
    headline: str  # one sentence
    arm: str
    baseline: str  # the best arm without synthetic images
    budget: str
    difference: float | None  # in AUROC, to real images alone
    low: float | None
    high: float | None
    p_corrected: float | None


def judge_all(
    pool: Pool, folds: Sequence[Fold], runs: Mapping[str, Runs], times: int, on_budget: Count
) -> list[Judged]:
    """`judge` for each amount of real images."""
    truth = truth_of_folds(pool, folds)
    share = float(np.mean([len(f.test) / max(1, len(f.train)) for f in folds]))
    judged: list[Judged] = []
    for name, of_budget in runs.items():
        judged.append(judge(truth, of_budget, name, test_share=share, times=times))
        on_budget(len(judged), len(runs))
    return judged


def truth_of_folds(pool: Pool, folds: Sequence[Fold]) -> Truth:
    """The truth about all test images, fold after fold."""
    rows = np.concatenate([fold.test for fold in folds])
    labels = pool.targets[rows].argmax(1) if pool.exclusive else pool.targets[rows].astype(int)
    part = np.concatenate([np.full(len(fold.test), k) for k, fold in enumerate(folds)])
    return truth_of(labels, pool.classes, [pool.real.groups[k] for k in rows], part)


def judge(truth: Truth, runs: Runs, budget: str, *, test_share: float, times: int) -> Judged:
    """Figures of every arm and the comparisons between them; p is corrected later, over budgets."""
    several = truth.classes if truth.kind != "binary" else truth.classes[1:]
    arms = {
        name: ArmScores(
            figures(truth, run.probabilities, OVERALL, times=times),
            {of: figures(truth, run.probabilities, BY_CLASS, of=of, times=times) for of in several},
        )
        for name, run in runs.items()
    }
    with_synthetic = [name for name, run in runs.items() if run.arm.uses_synthetic]
    without = [name for name in runs if name not in with_synthetic]
    best, baseline = _best(runs, with_synthetic), _best(runs, without) or "real"
    families: dict[Family, tuple[str, list[str]]] = {
        "help": ("real", with_synthetic),
        "baselines": ("real", [name for name in without if name != "real"]),
        "worth": (baseline, with_synthetic if baseline != "real" else []),
    }
    found: list[Asked] = []
    for family, (against, others) in families.items():
        if others:
            some = {name: runs[name].probabilities for name in (against, *others)}
            made = _compared(truth, some, against, test_share, times)
            found.extend(Asked(budget, family, comparison) for comparison in made)
    return Judged(budget, arms, found, best, baseline)


def _best(runs: Runs, names: Sequence[str]) -> str | None:
    return max(names, key=lambda name: float(runs[name].validation.mean()), default=None)


def _compared(
    truth: Truth, arms: Mapping[str, np.ndarray], against: str, test_share: float, times: int
) -> list[Comparison]:
    folds = [truth.folds == k for k in np.unique(truth.folds)]
    if len(folds) == 1:
        return compare(truth, arms, against, names=TESTED, times=times)
    made = []
    for name in TESTED:
        by_fold = {
            arm: np.stack([by_seed(name, truth.rows(rows), p[:, rows]) for rows in folds], 1)
            for arm, p in arms.items()
        }
        gains = {arm: each - by_fold[against] for arm, each in by_fold.items() if arm != against}
        made += compare_folds(truth, gains, against, name, test_share=test_share)
    return made


def correct(judged: Sequence[Judged]) -> list[Asked]:
    """All comparisons; p corrected within each family and score, over all budgets."""
    made = [asked for each in judged for asked in each.comparisons]
    for family, name in {(asked.family, asked.comparison.score) for asked in made}:
        places = [
            k
            for k, asked in enumerate(made)
            if (asked.family, asked.comparison.score) == (family, name)
        ]
        ps = corrected([made[k].comparison.p for k in places])
        for k, p in zip(places, ps, strict=True):
            made[k] = replace(made[k], comparison=replace(made[k].comparison, p_corrected=p))
    return made


def equality_of(
    truth: Truth, runs: Runs, names: Sequence[str], columns: Mapping[str, Sequence[str]], times: int
) -> list[tuple[str, Equality]]:
    """AUROC of the arms `names` in each subgroup that the test images' columns make."""
    return [
        (name, equality(truth, runs[name].probabilities, attribute, values, name=PRIMARY, times=times))
        for attribute, values in attributes(columns).items()
        for name in dict.fromkeys(names)
    ]  # fmt: skip


def verdict(last: Judged, comparisons: Sequence[Asked], images: int, *, proven: bool) -> Verdict:
    """The answer on so many test images.

    `last` is of the most real images with which an arm has synthetic ones, too; `proven` says whether
    the generator is known to have seen no test image.
    """
    if last.best is None:
        raise ValueError(f"with {last.budget} no arm has a synthetic image")
    own = {
        asked.family: asked.comparison
        for asked in comparisons
        if (asked.budget, asked.comparison.score) == (last.budget, PRIMARY)
        and asked.comparison.second == last.best
    }
    gain, worth = own["help"], own.get("worth")
    value, base = (last.arms[name].figures[PRIMARY].value for name in (last.best, "real"))
    answer = _answer(gain, worth)
    headline = (
        f"{_SENTENCES[answer]}: with {last.budget} of the real training images, {last.best} (the arm "
        f"that validation chose) reached an AUROC of {_number(value)} and real images alone "
        f"{_number(base)}, a difference of {_difference(gain)}, on {images:,} real test images"
    )
    if worth is not None:
        headline += f"; against {last.baseline}, the best arm without synthetic images, {_difference(worth)}"
    headline += "."
    if not proven:  # whoever reads no further than the first sentences must know
        headline += " The generator may have seen test images, so this proves nothing."
    return Verdict(answer, headline, last.best, last.baseline, last.budget, gain.difference,
                   gain.low, gain.high, gain.p_corrected)  # fmt: skip


_SENTENCES = {
    "helped": "The synthetic images helped",
    "no more than a baseline": "The synthetic images helped, but were not shown to help more than what "
    "needs none",
    "not shown": "No gain from the synthetic images was shown",
    "harmed": "The synthetic images did harm",
}


def _answer(gain: Comparison, worth: Comparison | None) -> Any:
    if gain.p_corrected is None or gain.p_corrected >= SURE:
        return "not shown"
    if (gain.difference or 0) < 0:
        return "harmed"
    sure = worth is None or (
        (worth.difference or 0) > 0 and worth.p_corrected is not None and worth.p_corrected < SURE
    )
    return "helped" if sure else "no more than a baseline"


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.3f}"


def _difference(c: Comparison) -> str:
    if c.difference is None:
        return "no value"
    text = f"{round(c.difference, 3) + 0.0:+.3f}"  # a rounded zero is not negative
    if c.low is None or c.high is None or c.p_corrected is None:
        return f"{text} ({c.note})"
    sure = "< 0.001" if c.p_corrected < 0.001 else f"= {c.p_corrected:.3f}"
    return f"{text} (95 % interval {c.low:+.3f} to {c.high:+.3f}, corrected p {sure})"
