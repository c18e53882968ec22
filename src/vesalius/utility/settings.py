"""How the experiment is run; none of it is chosen by looking at the test images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError
from vesalius.utility.arms import KINDS, Arm, parse_arms

_PLACES = ("learned_from", "store", "overwrite")  # decide nothing of the results
_LEAST = {
    "seeds": 1,
    "hidden": 0,
    "samples": 0,
    "steps": 10,
    "batch": 2,
    "views": 1,
    "replicates": 20,
}


@dataclass(frozen=True)
class UtilitySettings:
    """What may be asked. Raises VesaliusError for values that make no sense."""

    arms: Annotated[tuple[str, ...], Help(f"{', '.join(KINDS)}.", unset="all", commas=True)] = ()
    ratios: Annotated[
        tuple[float, ...], Help("Synthetic images for a real one, of the arm mixed.")
    ] = (0.5, 1.0, 2.0)
    fractions: Annotated[
        tuple[float, ...] | None,
        Help(
            "Of the real training images, such as 0.01,0.1,1.",
            unset="1, without --shots or --sizes",
        ),
    ] = None
    shots: Annotated[
        tuple[int, ...], Help("Real training images a class, such as 4,16.", unset="none")
    ] = ()
    sizes: Annotated[
        tuple[int, ...], Help("Real training images in all, such as 200.", unset="none")
    ] = ()
    folds: Annotated[
        int, Help("Cross-validation of so many folds; 0 keeps the table's splits.")
    ] = 0
    seeds: Annotated[int, Help("Trainings of each arm.")] = 5
    backbone: Annotated[
        str,
        Help(
            "inception, efficientnet-lite0, a network of timm such as resnet18 (=FILE for weights "
            "of your own), a folder; with --tune full also scratch:NAME and clip:ID."
        ),
    ] = "inception"
    tune: Annotated[
        Literal["probe", "full"], Help("probe (frozen backbone, features computed once) or full.")
    ] = "probe"
    hidden: Annotated[int, Help("Units of the probe's hidden layer; 0: linear.")] = 0
    steps: Annotated[int, Help("Optimiser steps of every training.")] = 1000
    batch: Annotated[int, Help("Images a step.")] = 64
    lr: Annotated[float | None, Help("Learning rate.", unset="the classifier's usual one")] = None
    views: Annotated[int, Help("Augmented views of an image, of a frozen backbone.")] = 4
    side: Annotated[
        int | None,
        Help(
            "Crop all images to squares of this many pixels first, as generators see theirs.",
            unset="each as the network wants it",
        ),
    ] = None
    test_split: Annotated[str, Help("Split that is tested on.")] = "test"
    label: Annotated[str, Help("Column of the table to tell apart.", flags=("--label-column",))] = (
        "label"
    )
    where: Annotated[
        Mapping[str, str], Help("COLUMN=VALUE of the rows that take part; may be repeated.")
    ] = field(default_factory=dict)
    replicates: Annotated[int, Help("Bootstrap replicates for intervals.")] = 1000
    device: Annotated[str, Help("auto, cpu, cuda or mps.")] = "auto"
    allow_unproven: Annotated[
        bool, Help("Go on where it cannot be proven that the generator saw no test image.")
    ] = False
    samples: Annotated[int, Help("Pictures of a class in the report.")] = 6
    learned_from: Annotated[
        tuple[str, ...],
        Help(
            "What the generator learned from: a run, or a pairs table of which it saw the training "
            "rows; once for the model and once an adapter.",
            flags=("--trained-on",),
            unset="what the set's about.json proves",
        ),
    ] = ()
    store: Annotated[Path | None, Help("Where features are kept.", unset="OUT/features")] = None
    overwrite: Annotated[bool, Help("Replace earlier results.")] = False

    def __post_init__(self) -> None:
        if self.fractions is None:  # asked for shots or sizes alone, the whole is left out
            whole = () if self.shots or self.sizes else (1.0,)
            object.__setattr__(self, "fractions", whole)
        self.parsed_arms()
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise VesaliusError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if self.side is not None and self.side < 8:
            raise VesaliusError(f"side is {self.side}: give 8 pixels or more")
        if self.lr is not None and not 0 < self.lr < 10:
            raise VesaliusError(f"lr is {self.lr:g}: give a learning rate such as 0.001")
        if self.folds == 1 or self.folds < 0:
            raise VesaliusError(f"{self.folds} folds: give 2 or more")
        if self.tune not in ("probe", "full"):
            raise VesaliusError(f"--tune is {self.tune!r}: probe or full")
        if bad := [f for f in self.fractions or () if not 0 < f <= 1]:
            raise VesaliusError(f"a fraction of {bad[0]:g}: take one above 0 and at most 1")
        if any(k < 1 for k in (*self.shots, *self.sizes)):
            raise VesaliusError("shots and sizes are 1 or more")
        if not (self.fractions or self.shots or self.sizes):
            raise VesaliusError("give a fraction, shots or a size of the real training images")

    def parsed_arms(self) -> list[Arm]:
        """The arms, `real` first."""
        return parse_arms(self.arms, self.ratios)

    def as_dict(self) -> dict[str, Any]:
        """For results.json."""
        kept = {name: value for name, value in asdict(self).items() if name not in _PLACES}
        return kept | {"where": dict(self.where)}
