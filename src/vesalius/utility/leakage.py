"""What must hold before a comparison is worth reading; what cannot be proven is refused, or flagged.

    sides      validation and test images are real, and no group is on two sides
    classifier no image that a classifier trains on, real or synthetic, repeats a test or validation
               image: those that do, saved another way or mirrored, are left out of training
    generator  no test image, none of its group and no copy of it has been seen by the generator

Test images are never augmented: nothing in `vesalius.utility` can.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vesalius.core.privacy_card import NO_ROWS
from vesalius.core.trained_on import TrainedOn, parts_of
from vesalius.errors import VesaliusError
from vesalius.images.crossing import crossing
from vesalius.images.provenance import count_synthetic
from vesalius.models.trained_on import of_bundled_models
from vesalius.pairs.leaks import find_leaks
from vesalius.pairs.splits import names_patient
from vesalius.pairs.trained_on import lists_of
from vesalius.utility.folds import Fold
from vesalius.utility.pool import Pool

Status = Literal["holds", "stated", "note", "unproven"]


@dataclass(frozen=True)
class Check:
    """One line of the report on honesty."""

    what: Literal["sides", "classifier", "generator"]
    status: Status
    message: str


def check_all(
    pool: Pool, folds: Sequence[Fold], given: Sequence[TrainedOn], *, allow_unproven: bool
) -> tuple[list[Fold], list[Check]]:
    """Folds without training images that repeat test or validation ones, and what was found.

    Raises VesaliusError where something is wrong, and where it cannot be proven that the generator
    saw no test image, unless `allow_unproven`.
    """
    checks = [*_splits(pool, folds)]
    thumbs: dict[int, np.ndarray] = {}
    clean = []
    for number, fold in enumerate(folds):
        where = f"fold {number}: " if len(folds) > 1 else ""
        fold, found = _without_copies(pool, fold, thumbs, where)
        clean.append(fold)
        checks += found
    for number in range(len(pool.sets)):
        of_set = [fold for fold in folds if np.isin(fold.synthetic, pool.rows(number)).any()]
        checks += _generator(pool, number, of_set, given, thumbs)
    unproven = [check for check in checks if check.status == "unproven"]
    if unproven and not allow_unproven:
        raise VesaliusError(
            f"{unproven[0].message}; --allow-unproven goes on and says so at the top of the report"
        )
    return clean, checks


def _splits(pool: Pool, folds: Sequence[Fold]) -> list[Check]:
    real = pool.real
    judged = np.unique(np.concatenate([np.r_[f.validation, f.test] for f in folds]))
    if count_synthetic(real.take(judged.tolist())):
        raise VesaliusError(
            "validation or test images say inside that they are synthetic: a classifier is judged on "
            "real images only; take them out of the table"
        )
    training = np.unique(np.concatenate([f.train for f in folds]))
    if count_synthetic(real.take(np.setdiff1d(training, judged).tolist())):
        raise VesaliusError(
            "training images of the real table say inside that they are synthetic: give those as "
            "--synthetic"
        )
    named = [group or f"\0{k}" for k, group in enumerate(real.groups)]
    for fold in folds:
        split = np.full(len(real), "unused", object)
        for name in ("train", "validation", "test"):
            split[getattr(fold, name)] = name
        for leak in find_leaks(real.keys, [None] * len(real), named, split.tolist(), []):
            raise VesaliusError(
                f"one group is on two sides, {leak.message}: divide the table again by "
                "`vesalius pairs --split val=0.15,test=0.2`"
            )
    message = f"all {len(judged):,} validation and test images are real"
    known = names_patient(real.column("source"), real.groups, real.keys)
    patients = {named[k] for k in judged if known[k]}
    if not patients:
        return [
            Check(
                "sides",
                "note",
                f"{message}, and none says whose it is: these are {len(judged):,} images of an unknown "
                "number of patients. Where one has several, it may be on two sides, and the intervals "
                "are too narrow; make the table with --group-column or --group-pattern",
            )
        ]
    without = int(sum(not known[k] for k in judged))
    unknown = f"; {without:,} images name no patient" if without else ""
    message += f"; none of their {len(patients):,} patients or lesions is on two sides{unknown}"
    return [Check("sides", "holds", message)]


def _without_copies(
    pool: Pool, fold: Fold, thumbs: dict[int, np.ndarray], where: str
) -> tuple[Fold, list[Check]]:
    """The fold without training images that are near-duplicates of what it is judged on."""
    judged = np.r_[fold.validation, fold.test].tolist()
    between = crossing(pool.encoded, fold.test.tolist(), fold.validation.tolist(), thumbs)
    validation = np.setdiff1d(fold.validation, [row for _, row in between])
    kept, lost = {}, {}
    for name in ("train", "synthetic"):
        rows = getattr(fold, name)
        copies = {row for _, row in crossing(pool.encoded, judged, rows.tolist(), thumbs)}
        kept[name] = np.array([row for row in rows if row not in copies], int)
        lost[name] = len(copies)
    total = sum(lost.values()) + len(fold.validation) - len(validation)
    message = (
        f"{where}no training image, real or synthetic, nearly repeats a test or validation image"
    )
    if total:
        message = (
            f"{where}left out, as they nearly repeat test or validation images: {lost['train']} real "
            f"and {lost['synthetic']} synthetic training images, "
            f"{len(fold.validation) - len(validation)} validation images"
        )
    for name in ("train", "synthetic"):
        if not len(kept[name]):
            raise VesaliusError(f"every {name} image nearly repeats a test image: nothing is left")
    found = Fold(kept["train"], validation, fold.test, kept["synthetic"])
    return found, [Check("classifier", "note" if total else "holds", message)]


def _generator(
    pool: Pool,
    number: int,
    folds: Sequence[Fold],
    given: Sequence[TrainedOn],
    thumbs: dict[int, np.ndarray],
) -> list[Check]:
    """What is known of what the generator of a set has seen."""
    real, name = pool.real, pool.sets[number].path.name
    test = np.unique(np.concatenate([fold.test for fold in folds]))
    validation = np.unique(np.concatenate([fold.validation for fold in folds]))
    own = lists_of(real.pairs, "the table's training rows")
    checks = []

    def unproven(message: str) -> None:
        checks.append(Check("generator", "unproven", message))

    for part in parts_of(pool.sets[number].about, given, [*own, *of_bundled_models()]):
        if part.trained_on is None:
            closed = f" ({NO_ROWS})" if part.private else ""
            unproven(
                f"what {part.name} behind {name} has learned from is not known{closed}, so it may have "
                "seen test images: name it by --trained-on RUN or --trained-on PAIRS"
            )
            continue
        used = [k for k in test if part.trained_on.includes(real.keys[k], real.groups[k])]
        if used:
            unproven(
                f"{len(used)} of {len(test)} test images, or others of their groups, were seen by "
                f"{part.name} behind {name}: train it without them, or test on another split"
            )
            continue
        at_hand = [k for k, key in enumerate(real.keys) if key in part.trained_on.images]
        copies = {a for a, _ in crossing(pool.encoded, test.tolist(), at_hand, thumbs)}
        if copies:
            unproven(
                f"{len(copies)} of {len(test)} test images nearly repeat images that {part.name} "
                f"behind {name} has seen: `vesalius pairs` puts such images on one side"
            )
            continue
        how = "its own record" if part.state == "proven" else "what --trained-on states"
        status = "holds" if part.state == "proven" else "stated"
        message = f"{part.name} behind {name} has seen no test image and none of their groups, by {how} ({len(part.trained_on.images):,} images)"
        elsewhere = len(part.trained_on.images) - len(at_hand)
        if elsewhere:
            message += (
                f"; near-copies were looked for among the {len(at_hand):,} that are at hand"
                if at_hand
                else "; near-copies were not looked for: none of these images is at hand"
            )
        checks.append(Check("generator", status, message))
        if also := sum(part.trained_on.includes(real.keys[k], real.groups[k]) for k in validation):
            checks.append(Check("generator", "note", (
                f"{part.name} has seen {also} of the {len(validation)} validation images or their "
                "groups: choices made on them may favour synthetic images, which the test does not"
            )))  # fmt: skip
    return checks
