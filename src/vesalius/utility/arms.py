"""The arms of a utility experiment: which images a classifier draws from, and how often.

    real          the real training images, each as often as any other
    oversampled   the same, drawn so that every class comes equally often
    augmented     the same, strongly augmented
    weighted      the same, rare classes weighing more in the loss
    synthetic     synthetic images alone
    mixed         real and synthetic images together, `ratio` synthetic ones for a real one
    pretrained    half of the steps on synthetic images, then half on real ones (RoentGen-v2)
    minority      real images, and synthetic ones only of classes that have fewer (EyeDiff)

Every arm takes the same number of optimiser steps with batches of the same size, so that none sees
more images than another; what differs is which ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vesalius.errors import VesaliusError

Kind = Literal[
    "real", "oversampled", "augmented", "weighted", "synthetic", "mixed", "pretrained", "minority"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
WITHOUT: tuple[Kind, ...] = ("real", "oversampled", "augmented", "weighted")  # no synthetic image
_MOST_WEIGHT = 100.0  # of a finding in one image of a thousand: more makes training unstable


@dataclass(frozen=True)
class Arm:
    """One recipe; `ratio` is of `mixed` alone."""

    kind: Kind
    ratio: float = 0.0

    @property
    def name(self) -> str:
        """As reports call it."""
        return f"real+synthetic x{self.ratio:g}" if self.kind == "mixed" else _NAMES[self.kind]

    @property
    def uses_synthetic(self) -> bool:
        """Whether any synthetic image is in it."""
        return self.kind not in WITHOUT


_NAMES: dict[str, str] = {
    "real": "real",
    "oversampled": "real, oversampled",
    "augmented": "real, augmented",
    "weighted": "real, class weights",
    "synthetic": "synthetic only",
    "pretrained": "synthetic, then real",
    "minority": "real+synthetic, minority",
}


@dataclass(frozen=True)
class Phase:
    """A part of a training: what its batches are drawn from."""

    rows: np.ndarray  # (n,) of the pool
    draw: np.ndarray  # (n,) the chance of each at every draw
    share: float = 1.0  # of the steps
    views: bool = False  # augmented views of the images in place of the images
    weights: np.ndarray | None = None  # (C,) of a class in the loss; of findings, of its positives


@dataclass(frozen=True)
class Plan:
    """What one training of an arm draws from."""

    phases: tuple[Phase, ...]
    real: int  # images
    synthetic: int
    note: str = ""


def same(first: Plan, second: Plan) -> bool:
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


def parse_arms(names: Sequence[str], ratios: Sequence[float]) -> list[Arm]:
    """Arms by their kinds, `mixed` once a ratio; none named is all.

    `real` is always among them, as the one that others are compared to.
    Raises VesaliusError for an unknown kind, a ratio that is none, and where no arm uses synthetic
    images.
    """
    if unknown := [name for name in names if name not in KINDS]:
        raise VesaliusError(f"no arm is called {unknown[0]!r}: choose {', '.join(KINDS)}")
    if bad := [ratio for ratio in ratios if not 0 < ratio < np.inf]:
        raise VesaliusError(
            f"the ratio {bad[0]:g} is not above 0: give synthetic images a real one"
        )
    wanted: list[Kind] = [kind for kind in KINDS if not names or kind in {*names, "real"}]
    arms = [Arm(kind) for kind in wanted if kind != "mixed"]
    if "mixed" in wanted:
        arms += [Arm("mixed", ratio) for ratio in sorted(set(ratios))]
    if not any(arm.uses_synthetic for arm in arms):
        raise VesaliusError("no arm uses synthetic images: name one, such as mixed")
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(arms, key=lambda arm: (order[arm.kind], arm.ratio))


def plan(
    arm: Arm,
    targets: np.ndarray,
    real: np.ndarray,
    synthetic: np.ndarray,
    seed: int,
    *,
    exclusive: bool,
) -> Plan:
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
        return Plan((_even(synthetic),), 0, len(synthetic))
    if arm.kind == "pretrained":
        phases = _even(synthetic, share=0.5), _even(real, share=0.5)
        return Plan(phases, len(real), len(synthetic))
    if arm.kind == "oversampled":
        return Plan((Phase(real, balanced(targets[real])),), len(real), 0)
    if arm.kind == "augmented":
        return Plan((_even(real, views=True),), len(real), 0)
    if arm.kind == "weighted":
        weights = class_weights(targets[real], exclusive=exclusive)
        return Plan((_even(real, weights=weights),), len(real), 0)
    taken, note = np.empty(0, int), ""
    if arm.kind == "mixed":
        wanted = round(arm.ratio * len(real))
        taken = np.sort(rng.permutation(synthetic)[:wanted])
        if wanted > len(taken):
            note = f"{wanted:,} synthetic images were asked for, the set has {len(taken):,}"
    if arm.kind == "minority":
        taken, short = _topped_up(targets, real, synthetic, rng)
        note = f"{short:,} images short of even classes: the set has no more" if short else ""
    return Plan((_even(np.concatenate([real, taken])),), len(real), len(taken), note)


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
