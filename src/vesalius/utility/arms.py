"""The arms of a utility experiment: which images a classifier draws from, and how often.

Every arm takes the same number of optimiser steps with batches of the same size, so that none sees
more images than another; what differs is which ones (`curricula`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vesalius.errors import VesaliusError

Kind = Literal[
    "real", "oversampled", "augmented", "weighted", "synthetic", "mixed", "pretrained", "minority"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
WITHOUT: tuple[Kind, ...] = ("real", "oversampled", "augmented", "weighted")  # no synthetic image
ABOUT: dict[str, str] = {
    "real": "the real images, each as often as any other",
    "oversampled": "the real images, every class equally often",
    "augmented": "the real images, strongly augmented",
    "weighted": "the real images, rare classes weighing more in the loss",
    "synthetic": "synthetic images alone",
    "mixed": "real and synthetic images together; x is synthetic images for a real one",
    "pretrained": "half of the steps on synthetic images, then half on real ones",  # RoentGen-v2
    "minority": "synthetic images only for classes that have fewer real ones",  # EyeDiff
}
_NAMES = {
    "oversampled": "real, oversampled",
    "augmented": "real, augmented",
    "weighted": "real, class weights",
    "synthetic": "synthetic only",
    "pretrained": "synthetic, then real",
    "minority": "real+synthetic, minority",
}


@dataclass(frozen=True)
class Arm:
    """One recipe; `ratio` is of `mixed` alone."""

    kind: Kind
    ratio: float = 0.0

    @property
    def name(self) -> str:
        """As reports call it."""
        if self.kind == "mixed":
            return f"real+synthetic x{self.ratio:g}"
        return _NAMES.get(self.kind, self.kind)

    @property
    def uses_synthetic(self) -> bool:
        """Whether any synthetic image is in it."""
        return self.kind not in WITHOUT


def parse_arms(names: Sequence[str], ratios: Sequence[float]) -> list[Arm]:
    """Arms by their kinds, `mixed` once a ratio; none named is all.

    `real` is always among them, as the one that others are compared to.
    Raises VesaliusError for an unknown kind, a ratio that is none, and where no arm uses synthetic
    images.
    """
    if unknown := [name for name in names if name not in KINDS]:
        raise VesaliusError(f"no arm is called {unknown[0]!r}: choose {', '.join(KINDS)}")
    if bad := [ratio for ratio in ratios if not 0 < ratio < math.inf]:
        raise VesaliusError(
            f"the ratio {bad[0]:g} is not above 0: give synthetic images a real one"
        )
    wanted: list[Kind] = [kind for kind in KINDS if not names or kind in {*names, "real"}]
    arms = [Arm(kind) for kind in wanted if kind != "mixed"]
    if "mixed" in wanted:
        arms += [Arm("mixed", ratio) for ratio in sorted(set(ratios))]
    if not any(arm.uses_synthetic for arm in arms):
        raise VesaliusError("no arm uses synthetic images: name one, such as mixed")
    return sorted(arms, key=lambda arm: (KINDS.index(arm.kind), arm.ratio))
