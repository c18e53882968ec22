"""Every arm, with every seed, on every fold, for every amount of real training images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vesalius.data import splits
from vesalius.errors import VesaliusError
from vesalius.evaluate.utility.arms import Arm, Plan, plan
from vesalius.evaluate.utility.classifiers import Learner, Trained
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


@dataclass(frozen=True)
class Grid:
    """All runs by the budget's name and the arm's, and which arms were left out, with the reason."""

    runs: dict[str, dict[str, Run]]
    left_out: dict[str, dict[str, str]]


def grid(
    pool: Pool,
    folds: Sequence[Fold],
    arms: Sequence[Arm],
    budgets: Sequence[Budget],
    seeds: int,
    learner: Learner,
    on_arm: Callable[[float, int | None], None] = lambda done, total: None,
) -> Grid:
    """Every arm, trained with every seed on every fold, for every amount of real data.

    Arms that would be the same as another are left out.
    Raises VesaliusError where no arm with a synthetic image remains.
    """
    found = Grid({}, {})
    alone: dict[int, Trained] = {}  # what synthetic images alone came to: the same for any budget
    for number, budget in enumerate(budgets):
        runs: dict[str, Run] = {}
        left_out: dict[str, str] = {}
        for place, arm in enumerate(arms):
            plans = [_plans(pool, fold, arm, budget, seeds) for fold in folds]
            if why := _redundant(arm, plans, runs):
                left_out[arm.name] = why
                continue
            parts = [
                alone[k]
                if arm.kind == "synthetic" and k in alone
                else learner(plans[k], range(seeds), fold.validation, fold.test)
                for k, fold in enumerate(folds)
            ]
            if arm.kind == "synthetic":
                alone.update(enumerate(parts))
            runs[arm.name] = _run(arm, plans, parts)
            on_arm(number * len(arms) + place + 1, len(budgets) * len(arms))
        if not any(run.arm.uses_synthetic for run in runs.values()):
            raise VesaliusError(
                f"with {budget.name}, no arm has a synthetic image ({'; '.join(left_out.values())}): "
                "choose other arms, such as mixed"
            )
        found.runs[budget.name], found.left_out[budget.name] = runs, left_out
    return found


def _redundant(arm: Arm, plans: Sequence[Sequence[Plan]], runs: Mapping[str, Run]) -> str:
    """Why an arm would be another one again, or nothing."""
    every = [each for of_fold in plans for each in of_fold]
    if arm.uses_synthetic and not any(each.synthetic for each in every):
        return "no class has fewer images than the largest: the same as real"
    whole = [run.arm.name for run in runs.values() if run.arm.kind == "mixed" and run.note]
    if arm.kind == "mixed" and whole and all(each.note for each in every):
        return f"the set has no more images than {whole[0]} takes"
    return ""


def _run(arm: Arm, plans: Sequence[Sequence[Plan]], parts: Sequence[Trained]) -> Run:
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
