"""What will be trained, laid out before anything is: arms by amounts, folds and seeds.

An arm whose every training would draw what another arm's draws is left out, and said to be that one:
a minority top-up of classes that are even, a ratio beyond the set's images, oversampling of equally
many shots. It would cost a training and, in the correction for several tests, a comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.pairs import splits
from vesalius.utility.arms import Arm
from vesalius.utility.curricula import Curriculum, curriculum, same
from vesalius.utility.folds import Fold
from vesalius.utility.pool import Pool
from vesalius.utility.settings import UtilitySettings

BudgetKind = Literal["fraction", "shots", "size"]
Curricula = Sequence[Sequence[Curriculum]]  # of each fold, one a seed


@dataclass(frozen=True)
class Budget:
    """An amount of real training images."""

    kind: BudgetKind
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
        """So many of the rows `train`; each seed draws its own, whole groups as far as that goes.

        Every class keeps an image. Raises VesaliusError for a size that is more than there are, or
        fewer than the classes.
        """
        if self.kind == "fraction" and self.amount == 1:
            return train
        own = [groups[k] or f"\0{k}" for k in train], [labels[k] for k in train]
        if self.kind == "shots":
            return train[np.array(splits.few_shots(*own, int(self.amount), seed))]
        if self.kind == "fraction":
            return train[np.array(splits.fraction_of(*own, self.amount, seed))]
        kinds, size = set(own[1]), int(self.amount)
        if not len(kinds) <= size <= len(train):
            raise VesaliusError(
                f"{size} real images are asked for: there are {len(train)}, of {len(kinds)} labels"
            )
        some = train[np.array(splits.fraction_of(*own, size / len(train), seed))]
        some = np.random.default_rng([seed, 3]).permutation(some)
        first = np.unique([labels[k] for k in some], return_index=True)[1]  # one of each label
        return np.sort(some[np.r_[first, np.setdiff1d(np.arange(len(some)), first)][:size]])


@dataclass(frozen=True)
class LeftOut:
    """An arm that would be another one again."""

    arm: str
    same_as: str
    why: str


@dataclass(frozen=True)
class Layout:
    """What is trained with one amount of real images."""

    budget: Budget
    curricula: Mapping[Arm, Curricula]
    left_out: Sequence[LeftOut]


def budgets_of(settings: UtilitySettings) -> list[Budget]:
    """The amounts of real images that are asked for, the fewest images about first."""
    amounts: dict[BudgetKind, Sequence[float]] = {
        "shots": settings.shots,
        "size": settings.sizes,
        "fraction": settings.fractions or (),
    }
    return [Budget(kind, k) for kind, some in amounts.items() for k in sorted(set(some))]


def lay_out(
    pool: Pool, folds: Sequence[Fold], arms: Sequence[Arm], budgets: Sequence[Budget], seeds: int
) -> list[Layout]:
    """What every arm draws from for each amount of real images.

    Raises VesaliusError where no arm with a synthetic image remains.
    """
    layouts = [_of(budget, pool, folds, arms, seeds) for budget in budgets]
    if not any(arm.uses_synthetic for each in layouts for arm in each.curricula):
        why = "; ".join(
            f"{one.arm} would be {one.same_as}, {one.why}" for one in layouts[-1].left_out
        )
        raise VesaliusError(f"no arm has a synthetic image ({why}): choose others, such as mixed")
    return layouts


def _of(
    budget: Budget, pool: Pool, folds: Sequence[Fold], arms: Sequence[Arm], seeds: int
) -> Layout:
    real, kept, left_out = pool.real, {}, []
    drawn = [
        [budget.rows(fold.train, real.groups, real.labels, seed) for seed in range(seeds)]
        for fold in folds
    ]
    for arm in arms:
        curricula = [
            [curriculum(arm, pool.targets, rows, fold.synthetic, seed, exclusive=pool.exclusive)
             for seed, rows in enumerate(of_fold)]
            for fold, of_fold in zip(folds, drawn, strict=True)
        ]  # fmt: skip
        twin = next((other for other, theirs in kept.items() if _alike(curricula, theirs)), None)
        if twin is None:
            kept[arm] = curricula
        else:
            left_out.append(LeftOut(arm.name, twin.name, _why(arm, curricula[0][0])))
    return Layout(budget, kept, left_out)


def _why(arm: Arm, first: Curriculum) -> str:
    if first.note:
        return first.note
    if first.synthetic:
        return "the same synthetic images"
    return (
        "the ratio comes to no image" if arm.kind == "mixed" else "every class has as many images"
    )


def _alike(first: Curricula, second: Curricula) -> bool:
    return all(
        same(a, b)
        for ours, theirs in zip(first, second, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
