"""Every arm, with every seed, on every fold, for every amount of real training images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vesalius.data import splits
from vesalius.errors import VesaliusError
from vesalius.evaluate.utility.arms import Arm, Plan, plan
from vesalius.evaluate.utility.classifiers import Learner
from vesalius.evaluate.utility.judgement import Run
from vesalius.evaluate.utility.material import Fold, Pool
from vesalius.evaluate.utility.scores import Truth, truth_of


@dataclass(frozen=True)
class Budget:
    """An amount of real training images."""

    kind: Literal["fraction", "shots", "size"]
    amount: float

    @property
    def name(self) -> str:
        """As in `10 %`."""
        if self.kind == "fraction":
            return f"{100 * self.amount:g} %"
        return (
            f"{self.amount:g} shots a class" if self.kind == "shots" else f"{self.amount:g} images"
        )

    def rows(
        self, train: np.ndarray, groups: list[str], labels: list[str], seed: int
    ) -> np.ndarray:
        """So many of the rows `train`; each seed draws its own, whole groups as far as that goes."""
        if self.kind == "fraction" and self.amount == 1:
            return train
        own = [groups[k] or f"\0{k}" for k in train], [labels[k] for k in train]
        if self.kind == "shots":
            return train[np.array(splits.few_shots(*own, int(self.amount), seed))]
        if self.kind == "fraction":
            return train[np.array(splits.fraction_of(*own, self.amount, seed))]
        if self.amount > len(train):
            raise VesaliusError(
                f"{self.amount:g} real images are asked for, there are {len(train)}"
            )
        some = train[np.array(splits.fraction_of(*own, self.amount / len(train), seed))]
        return np.sort(np.random.default_rng([seed, 3]).permutation(some)[: int(self.amount)])


def grid(
    pool: Pool,
    folds: Sequence[Fold],
    arms: Sequence[Arm],
    budgets: Sequence[Budget],
    seeds: int,
    learner: Learner,
    on_arm: Callable[[float, int | None], None] = lambda done, total: None,
) -> dict[str, dict[str, Run]]:
    """Every arm, trained with every seed on every fold, for every amount of real data.

    Returns runs by the budget's name and the arm's. Arms that would be the same as another, as the
    set has no more images, are left out.
    """
    done, total = 0, len(budgets) * len(arms) * len(folds)
    found: dict[str, dict[str, Run]] = {}
    alone: dict[int, Any] = {}  # what synthetic images alone came to: the same with any budget
    for budget in budgets:
        runs: dict[str, Run] = {}
        whole: set[str] = set()  # arms that have taken every synthetic image
        for arm in arms:
            parts, plans = [], []
            for number, fold in enumerate(folds):
                plans.append(_plans(pool, fold, arm, budget, seeds))
                if arm.kind == "mixed" and plans[-1][0].note and "mixed" in whole:
                    break  # the same images as with a smaller ratio
                if arm.kind == "synthetic" and number in alone:
                    parts.append(alone[number])
                else:
                    parts.append(learner(plans[-1], range(seeds), fold.validation, fold.test))
                if arm.kind == "synthetic":
                    alone[number] = parts[-1]
                done += 1
                on_arm(done, total)
            if len(parts) < len(folds):
                continue
            if plans[0][0].note:
                whole.add(arm.kind)
            first = [each[0] for each in plans]
            runs[arm.name] = Run(
                arm,
                np.concatenate([part.test for part in parts], axis=1),
                np.array([[c["validation_auroc"] for c in part.chosen] for part in parts]),
                round(np.mean([each.real for each in first])),
                round(np.mean([each.synthetic for each in first])),
                sum(part.seconds for part in parts),
                [c | {"fold": k, "seed": s} for k, part in enumerate(parts)
                 for s, c in enumerate(part.chosen)],
                first[0].note,
            )  # fmt: skip
        found[budget.name] = runs
    return found


def _plans(pool: Pool, fold: Fold, arm: Arm, budget: Budget, seeds: int) -> list[Plan]:
    real = pool.real
    return [
        plan(
            arm,
            pool.targets,
            budget.rows(fold.train, real.groups, real.labels, seed),
            fold.synthetic,
            seed,
            exclusive=pool.exclusive,
        )
        for seed in range(seeds)
    ]


def truth_of_folds(pool: Pool, folds: Sequence[Fold]) -> Truth:
    """What is so of all test images, fold after fold."""
    rows = np.concatenate([fold.test for fold in folds])
    labels = pool.targets[rows].argmax(1) if pool.exclusive else pool.targets[rows].astype(int)
    part = np.concatenate([np.full(len(fold.test), k) for k, fold in enumerate(folds)])
    return truth_of(labels, pool.classes, [pool.real.groups[k] for k in rows], part)
