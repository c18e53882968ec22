"""Every arm, with every seed, on every fold, for every amount of real training images."""

from collections.abc import Callable, Sequence

import numpy as np

from vesalius.utility.arms import Arm
from vesalius.utility.classifiers import Learner, Trained
from vesalius.utility.judgement import Run
from vesalius.utility.layout import Layout, Plans
from vesalius.utility.pool import Fold, Pool
from vesalius.utility.scores import Truth, truth_of

Runs = dict[str, dict[str, Run]]  # by the amount's name and the arm's


def grid(
    folds: Sequence[Fold],
    laid: Sequence[Layout],
    learner: Learner,
    on_arm: Callable[[float, int | None], None] = lambda done, total: None,
) -> Runs:
    """Train all that is laid out."""
    found: Runs = {}
    alone: list[Trained] = []  # of synthetic images alone, by fold: the same for any amount
    done, total = 0, sum(len(each.plans) for each in laid)
    for each in laid:
        runs = found[each.budget.name] = {}
        for arm, plans in each.plans.items():
            if arm.kind == "synthetic" and alone:
                parts = alone
            else:
                parts = [
                    learner(of_fold, range(len(of_fold)), fold.validation, fold.test)
                    for fold, of_fold in zip(folds, plans, strict=True)
                ]
            if arm.kind == "synthetic":
                alone = parts
            runs[arm.name] = _run(arm, plans, parts)
            done += 1
            on_arm(done, total)
    return found


def _run(arm: Arm, plans: Plans, parts: Sequence[Trained]) -> Run:
    every = [each for of_fold in plans for each in of_fold]
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


def truth_of_folds(pool: Pool, folds: Sequence[Fold]) -> Truth:
    """What is so of all test images, fold after fold."""
    rows = np.concatenate([fold.test for fold in folds])
    labels = pool.targets[rows].argmax(1) if pool.exclusive else pool.targets[rows].astype(int)
    part = np.concatenate([np.full(len(fold.test), k) for k, fold in enumerate(folds)])
    return truth_of(labels, pool.classes, [pool.real.groups[k] for k in rows], part)
