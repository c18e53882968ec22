"""How the real images are divided into training, validation and test images."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.pairs import splits
from vesalius.utility.pool import Pool, Real

VALIDATION_SHARE = 0.15  # of the training groups, where the table has none to validate on


@dataclass(frozen=True)
class Fold:
    """One division of the real images; positions in the pool."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    synthetic: np.ndarray  # rows that may be trained on


def divide(pool: Pool, *, test_split: str, folds: int, seed: int) -> tuple[list[Fold], list[str]]:
    """The divisions and what to know of them: one by the table's splits, or `folds` of all real rows.

    Without rows to validate on, some are cut from the training rows, whole groups. Fold k is tested
    on part k, validated on the next and trained on the rest. With a synthetic set a fold, each has
    its own; with one, all share it. Without folds several sets, such as one a class, are taken
    together.
    Raises VesaliusError for a class that a side lacks, and too few groups for the folds.
    """
    real, notes = pool.real, []
    if folds:
        if len(pool.sets) not in (1, folds):
            raise VesaliusError(
                f"{len(pool.sets)} synthetic sets for {folds} folds: give one that saw none of the "
                "real images, or one a fold, in their order"
            )
        numbers, notes = _folds(real, folds, seed)
        part = np.array(numbers)
        made = []
        for k in range(folds):
            own = part == k, part == (k + 1) % folds if folds > 2 else np.zeros(len(part), bool)
            train = np.flatnonzero(~own[0] & ~own[1])
            validation = np.flatnonzero(own[1])
            if folds == 2:
                train, validation = _cut(real, train, seed)
            number = k if len(pool.sets) == folds else 0
            made.append(Fold(train, validation, np.flatnonzero(own[0]), pool.rows(number)))
    else:
        test = np.array(real.of(test_split), int)
        if not len(test):
            counts = Counter(real.splits)
            raise VesaliusError(
                f"no real image is of the split {test_split!r} ("
                + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
                + "): make the table with `vesalius pairs --split val=0.15,test=0.2`, or give "
                "--test-split val"
            )
        train = np.array(real.of("train"), int)
        validation = np.array(real.of("val") if test_split != "val" else [], int)
        if not len(validation):
            train, validation = _cut(real, train, seed)
            notes.append(
                f"{len(validation):,} of the training images were set aside to validate on, whole "
                "groups: the table has none"
            )
        synthetic = np.concatenate([pool.rows(number) for number in range(len(pool.sets))])
        made = [Fold(train, validation, test, synthetic)]
    for number, fold in enumerate(made):
        check_classes(pool, fold, f" in fold {number}" if folds else "")
    return made, notes


def _folds(real: Real, folds: int, seed: int) -> tuple[list[int], list[str]]:
    """The fold of each image, and what to know of it."""
    if len(real) < folds:
        raise VesaliusError(f"{len(real)} real images for {folds} folds: take fewer folds")
    names = real.pairs.table.column_names
    own = real.column("fold") if "fold" in names else []  # of `vesalius pairs --folds`
    if set(own) == {str(k) for k in range(folds)}:
        return [int(value) for value in own], []
    notes = []
    if any(own):
        notes.append(
            f"the table's own folds are not {folds}, or not of all images, so that others were drawn: "
            "sets made for the table's folds have seen test images of these"
        )
    return splits.folds(_named(real), real.labels, folds, seed), notes


def _cut(real: Real, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    named = _named(real)
    groups, labels = [named[k] for k in rows], [real.labels[k] for k in rows]
    drawn = np.array(splits.assign(groups, labels, {"val": VALIDATION_SHARE}, seed=seed))
    return rows[drawn == "train"], rows[drawn == "val"]


def _named(real: Real) -> list[str]:
    """Groups; an image without one is its own."""
    return [group or f"\0{key}" for group, key in zip(real.groups, real.keys, strict=True)]


def check_classes(pool: Pool, fold: Fold, where: str) -> None:
    """Raise VesaliusError for a class without a training, validation or test image."""
    sides = {"training": fold.train, "validation": fold.validation, "test": fold.test}
    for side, rows in sides.items():
        counts = pool.targets[rows].sum(0)
        for name, count in zip(pool.classes, counts, strict=True):
            if count == 0:
                raise VesaliusError(
                    f"the class {name!r} has no {side} image{where}: divide the table again with "
                    "more images on that side, or leave the class out"
                )
