"""What a training of an arm draws from: rows of the pool, the chance of each, phase after phase."""

from dataclasses import dataclass

import numpy as np

from vesalius.utility.arms import Arm

_MOST_WEIGHT = 100.0  # of a finding in one image of a thousand: more makes training unstable


@dataclass(frozen=True)
class Phase:
    """A part of a training: what its batches are drawn from."""

    rows: np.ndarray  # (n,) of the pool
    draw: np.ndarray  # (n,) the chance of each at every draw
    share: float = 1.0  # of the steps
    views: bool = False  # augmented views of the images in place of the images
    weights: np.ndarray | None = None  # (C,) of a class in the loss; of findings, of its positives


@dataclass(frozen=True)
class Curriculum:
    """What one training of an arm draws from."""

    phases: tuple[Phase, ...]
    real: int  # images
    synthetic: int
    note: str = ""


def same(first: Curriculum, second: Curriculum) -> bool:
    """Whether two trainings would draw the same images as often, and weigh them alike."""
    if len(first.phases) != len(second.phases):
        return False
    return all(
        (a.share, a.views) == (b.share, b.views)
        and np.array_equal(a.rows, b.rows)
        and np.allclose(a.draw, b.draw)
        and np.allclose(_weights(a), _weights(b))
        for a, b in zip(first.phases, second.phases, strict=True)
    )


def _weights(phase: Phase) -> np.ndarray:
    return np.ones(1) if phase.weights is None else phase.weights


def curriculum(
    arm: Arm,
    targets: np.ndarray,
    real: np.ndarray,
    synthetic: np.ndarray,
    seed: int,
    *,
    exclusive: bool,
) -> Curriculum:
    """What the training `seed` of an arm draws from.

    Args:
        arm: which.
        targets: (P, C) zeros and ones of the whole pool.
        real: rows of the pool that are real training images.
        synthetic: rows that are synthetic images.
        seed: decides which synthetic images are taken where not all are.
        exclusive: whether an image has exactly one class.
    """
    rng = np.random.default_rng([seed, 1])
    if arm.kind == "synthetic":
        return Curriculum((_even(synthetic),), 0, len(synthetic))
    if arm.kind == "pretrained":
        phases = _even(synthetic, share=0.5), _even(real, share=0.5)
        return Curriculum(phases, len(real), len(synthetic))
    if arm.kind == "oversampled":
        return Curriculum((Phase(real, balanced(targets[real])),), len(real), 0)
    if arm.kind == "augmented":
        return Curriculum((_even(real, views=True),), len(real), 0)
    if arm.kind == "weighted":
        weights = class_weights(targets[real], exclusive=exclusive)
        return Curriculum((_even(real, weights=weights),), len(real), 0)
    taken, note = np.empty(0, int), ""
    if arm.kind == "mixed":
        wanted = round(arm.ratio * len(real))
        taken = np.sort(rng.permutation(synthetic)[:wanted])
        if wanted > len(taken):
            note = f"{wanted:,} synthetic images were asked for, the set has {len(taken):,}"
    if arm.kind == "minority":
        taken, short = _topped_up(targets, real, synthetic, rng)
        note = f"{short:,} images short of even classes: the set has no more" if short else ""
    return Curriculum((_even(np.concatenate([real, taken])),), len(real), len(taken), note)


def _even(
    rows: np.ndarray, share: float = 1.0, views: bool = False, weights: np.ndarray | None = None
) -> Phase:
    return Phase(rows, np.full(len(rows), 1 / max(1, len(rows))), share, views, weights)


def balanced(targets: np.ndarray) -> np.ndarray:
    """Chances (n,) by which classes come equally often; an image counts for the rarest it shows.

    Images of findings that show none are a class of their own.
    """
    shown = np.column_stack([targets, targets.sum(1) == 0]).astype(bool)
    counts = shown.sum(0)
    rarest = np.where(shown, counts, len(shown) + 1).argmin(1)
    chance = 1 / np.bincount(rarest, minlength=shown.shape[1])[rarest]
    return chance / chance.sum()


def class_weights(targets: np.ndarray, *, exclusive: bool) -> np.ndarray:
    """Weights (C,) of classes in the loss: n / (C n_c); of findings negatives / positives."""
    counts = np.maximum(targets.sum(0), 1)
    if exclusive:
        weights = len(targets) / (targets.shape[1] * counts)
    else:
        weights = (len(targets) - targets.sum(0)) / counts
    return np.clip(weights, 1 / _MOST_WEIGHT, _MOST_WEIGHT)


def _topped_up(
    targets: np.ndarray, real: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Synthetic rows that bring every class to the size of the largest, and how many are lacking."""
    counts = targets[real].sum(0)
    most, taken, short = int(counts.max()), np.empty(0, int), 0
    for column in np.argsort(counts, kind="stable"):
        have = int(counts[column] + targets[taken, column].sum())
        able = np.setdiff1d(synthetic[targets[synthetic, column] > 0], taken)
        some = rng.permutation(able)[: max(0, most - have)]
        short += max(0, most - have) - len(some)
        taken = np.concatenate([taken, some])
    return np.sort(taken), short
