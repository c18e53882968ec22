"""Every arm, with every seed, on every fold, for every amount of real training images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vesalius.utility.arms import Arm
from vesalius.utility.folds import Fold
from vesalius.utility.layout import Curricula, Layout
from vesalius.utility.learner import Learner, Trained


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


Runs = dict[str, Run]  # by the arm's name


def grid(
    folds: Sequence[Fold],
    layouts: Sequence[Layout],
    learner: Learner,
    on_arm: Callable[[float, int | None], None] = lambda done, total: None,
) -> dict[str, Runs]:
    """Train all that is laid out; by the name of the amount of real images."""
    found: dict[str, Runs] = {}
    alone: list[Trained] = []  # of synthetic images alone, by fold: the same for any amount
    done, total = 0, sum(len(each.curricula) for each in layouts)
    for each in layouts:
        runs = found[each.budget.name] = {}
        for arm, curricula in each.curricula.items():
            if arm.kind == "synthetic" and alone:
                parts = alone
            else:
                parts = [
                    learner(of_fold, range(len(of_fold)), fold.validation, fold.test)
                    for fold, of_fold in zip(folds, curricula, strict=True)
                ]
            if arm.kind == "synthetic":
                alone = parts
            runs[arm.name] = _run(arm, curricula, parts)
            done += 1
            on_arm(done, total)
    return found


def _run(arm: Arm, curricula: Curricula, parts: Sequence[Trained]) -> Run:
    every = [each for of_fold in curricula for each in of_fold]
    return Run(
        arm,
        np.concatenate([part.test for part in parts], axis=1),
        np.array([[c["validation_auroc"] for c in part.chosen] for part in parts]),
        round(np.mean([each.real for each in every])),
        round(np.mean([each.synthetic for each in every])),
        sum(part.seconds for part in parts),
        [
            chosen | {"fold": k, "seed": s}
            for k, part in enumerate(parts)
            for s, chosen in enumerate(part.chosen)
        ],
        every[0].note,
    )
