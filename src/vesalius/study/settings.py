"""What `vesalius study build`, `check` and `lock` can be asked for, checked at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError

TASKS = ("turing", "pair", "quality", "alignment", "diagnosis")
DESIGN, IMAGES = "Design", "Images"


@dataclass(frozen=True)
class DesignSettings:
    """Who reads what, and how often. Raises VesaliusError for values that make no sense."""

    tasks: Annotated[
        tuple[str, ...], Help(f"With commas: {', '.join(TASKS)}.", panel=DESIGN, commas=True)
    ] = ("turing",)
    readers: Annotated[
        str, Help("How many, or names with commas: Ann:radiology,Bob.", panel=DESIGN)
    ] = "5"
    trials: Annotated[
        int, Help("Scored trials of each reader and task, half of them real.", panel=DESIGN)
    ] = 100
    repeats: Annotated[float, Help("Of the trials, the share shown again later.", panel=DESIGN)] = (
        0.1
    )
    fakes: Annotated[
        int, Help("Gross fakes in turing, pair and quality: who pays attention?", panel=DESIGN)
    ] = 5
    same: Annotated[float, Help("Real-real pairs, as a share of the pairs.", panel=DESIGN)] = 0.1
    compare: Annotated[
        Literal["realism", "preference"],
        Help("What pairs are compared for: realism, or preference with a tie.", panel=DESIGN),
    ] = "realism"
    margin: Annotated[float, Help("Difference inside which arms count as equal.", panel=DESIGN)] = (
        0.1
    )
    training: Annotated[
        int, Help("Cases with feedback before each task, not analysed.", panel=DESIGN)
    ] = 6
    unaware_first: Annotated[
        bool,
        Help(
            "Half of quality and diagnosis before readers hear of synthetic images.", panel=DESIGN
        ),
    ] = False
    specialties: Annotated[
        Mapping[str, str],
        Help(
            "TASK=SPECIALTY: only readers of it get this task; may be repeated.",
            flags=("--specialty",),
            panel=DESIGN,
        ),
    ] = field(default_factory=dict)
    seed: Annotated[int, Help("Decides every draw and order.", panel=DESIGN)] = 0

    def __post_init__(self) -> None:
        if not self.tasks:
            raise VesaliusError(f"--tasks names none: choose of {', '.join(TASKS)}")
        for name in (*self.tasks, *self.specialties):
            if name not in TASKS:
                raise VesaliusError(f"no task is called {name!r}: choose of {', '.join(TASKS)}")
        if self.trials < 2 or self.trials % 2:
            raise VesaliusError(f"--trials is {self.trials}: give an even number, as half are real")
        for name in ("repeats", "same"):
            if not 0 <= getattr(self, name) <= 1:
                raise VesaliusError(f"--{name} is {getattr(self, name):g}: a share from 0 to 1")
        for name in ("fakes", "training", "seed"):
            if getattr(self, name) < 0:
                raise VesaliusError(f"--{name} is {getattr(self, name)}: 0 or more")
        if not 0 < self.margin < 0.5:
            raise VesaliusError(f"--margin is {self.margin:g}: give a share above 0 and below 0.5")
        self.named_readers()

    def named_readers(self) -> list[tuple[str, str]]:
        """Name and specialty of each reader. Raises VesaliusError for none."""
        if self.readers.strip().isdecimal():
            number = int(self.readers)
            if not 1 <= number <= 500:
                raise VesaliusError(f"--readers is {number}: give 1 to 500, or their names")
            return [(f"R{k + 1}", "") for k in range(number)]
        found = []
        for text in filter(None, map(str.strip, self.readers.split(","))):
            name, _, specialty = text.partition(":")
            found.append((name.strip(), specialty.strip()))
        if not found:
            raise VesaliusError("--readers names nobody: give a number or names")
        return found


@dataclass(frozen=True)
class ImageSettings:
    """Which images take part and how they are made equal."""

    splits: Annotated[
        tuple[str, ...],
        Help(
            "Splits to draw real images from, in this order; the use of train is recorded.",
            panel=IMAGES,
            commas=True,
        ),
    ] = ("test", "val")
    sources: Annotated[
        tuple[str, ...],
        Help("Only real images of this source.", flags=("--source",), panel=IMAGES, unset="all"),
    ] = ()
    where: Annotated[
        Mapping[str, str],
        Help("COLUMN=VALUE of the real images that take part; may be repeated.", panel=IMAGES),
    ] = field(default_factory=dict)
    label: Annotated[
        str, Help("Column of the classes.", flags=("--label-column",), panel=IMAGES)
    ] = "label"
    match: Annotated[
        tuple[str, ...],
        Help(
            "Columns besides the label in which matched images agree, where all arms have them.",
            panel=IMAGES,
            commas=True,
        ),
    ] = ("view", "plane", "side", "laterality", "eye")
    size: Annotated[
        str | None,
        Help("Pixels of every image: 256, or 384x256.", panel=IMAGES, unset="the smallest arm's"),
    ] = None
    crop_borders: Annotated[bool, Help("Cut black borders off all images first.", panel=IMAGES)] = (
        False
    )
    reconstruct: Annotated[
        str | None,
        Help(
            "A third arm: real images through the autoencoder of this model.",
            panel=IMAGES,
            unset="none",
        ),
    ] = None
    reuse: Annotated[
        bool,
        Help(
            "Where images are too few, use one again in another task, never in the same.",
            flags=("--reuse/--no-reuse",),
            panel=IMAGES,
        ),
    ] = True
    learned_from: Annotated[
        tuple[str, ...],
        Help(
            "What the generator learned from: a run, or a pairs table of which it saw the training "
            "rows; once for the model and once an adapter.",
            flags=("--trained-on",),
            panel=IMAGES,
            unset="what the sets' about.json prove",
        ),
    ] = ()
    device: Annotated[str, Help("Of --reconstruct: auto, cpu, cuda or mps.", panel=IMAGES)] = "auto"

    def __post_init__(self) -> None:
        if not self.splits:
            raise VesaliusError("--splits names none: test,val is the usual choice")


@dataclass(frozen=True)
class BuildSettings:
    """`vesalius study build`."""

    design: DesignSettings = field(default_factory=DesignSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    protocol: Annotated[
        Path | None,
        Help("Take the design from an edited protocol.yaml instead.", unset="the options below"),
    ] = None
    overwrite: Annotated[bool, Help("Replace an earlier study that is not locked.")] = False


@dataclass(frozen=True)
class CheckSettings:
    """`vesalius study check`."""

    folds: Annotated[int, Help("Folds of the cross-validation.")] = 5
    repetitions: Annotated[int, Help("Divisions into folds whose scores are averaged.")] = 3
    exchanges: Annotated[int, Help("Random exchanges of matched images' arms, for chance.")] = 400
    replicates: Annotated[int, Help("Bootstrap replicates of the interval.")] = 2000
    seed: Annotated[int, Help("Decides every draw.")] = 0

    def __post_init__(self) -> None:
        if self.folds < 2 or self.repetitions < 1:
            raise VesaliusError("a cross-validation takes 2 folds and 1 repetition, or more")
        for name in ("replicates", "exchanges"):
            if getattr(self, name) < 100:
                raise VesaliusError(f"--{name} is {getattr(self, name)}: give 100 or more")


@dataclass(frozen=True)
class LockSettings:
    """`vesalius study lock`."""

    despite: Annotated[
        str | None,
        Help(
            "Lock although a machine can tell the arms apart, for this reason, which is recorded.",
            metavar="REASON",
            unset="refuse",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.despite is not None and len(self.despite.split()) < 2:
            raise VesaliusError("--despite needs a reason in words, which will be recorded")


@dataclass(frozen=True)
class PowerSettings:
    """`vesalius study power`. Raises VesaliusError for values that make no sense."""

    tasks: Annotated[
        tuple[str, ...],
        Help(
            f"With commas: {', '.join(TASKS)}.",
            unset="the study's; turing without one",
            commas=True,
        ),
    ] = ()
    readers: Annotated[
        tuple[int, ...], Help("Numbers of readers.", unset="the study's, and 3, 5, 8", commas=True)
    ] = ()
    cases: Annotated[
        tuple[int, ...],
        Help(
            "Numbers of images (of pairs, for pair).",
            unset="the study's; 50, 100 and 200",
            commas=True,
        ),
    ] = ()
    margin: Annotated[
        float | None, Help("Inside which arms count as equal.", unset="the study's; 0.1")
    ] = None
    auc: Annotated[
        bool, Help("Judge turing by the AUC of answers with confidence, not by accuracy.")
    ] = False
    detect: Annotated[float, Help("The difference that should be found, as d'.")] = 0.5
    readers_differ: Annotated[float, Help("Variance between readers; that of a case is 1.")] = 0.011
    cases_differ: Annotated[
        float, Help("Of that 1, the share that all readers see in a case alike.")
    ] = 0.3
    simulations: Annotated[int, Help("Studies drawn for each figure.")] = 1000
    seed: Annotated[int, Help("Decides every draw.")] = 0

    def __post_init__(self) -> None:
        for name in self.tasks:
            if name not in TASKS:
                raise VesaliusError(f"no task is called {name!r}: choose of {', '.join(TASKS)}")
        if any(not 1 <= number <= 100 for number in self.readers):
            raise VesaliusError("--readers are numbers from 1 to 100")
        if any(not 8 <= number <= 10_000 for number in self.cases):
            raise VesaliusError("--cases are numbers from 8 to 10000")
        if self.margin is not None and not 0 < self.margin < 0.5:
            raise VesaliusError(f"--margin is {self.margin:g}: give a share above 0 and below 0.5")
        if not 0 < self.detect <= 5:
            raise VesaliusError(f"--detect is {self.detect:g}: a d' above 0, such as 0.5")
        if self.readers_differ < 0 or not 0 <= self.cases_differ <= 1:
            raise VesaliusError("--readers-differ is 0 or more, --cases-differ from 0 to 1")
        if not 20 <= self.simulations <= 100_000:
            raise VesaliusError("--simulations are 20 to 100000")
