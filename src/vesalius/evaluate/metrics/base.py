"""What a metric is: what it measures of a synthetic set, and what it says of the figures.

A part that cannot be measured leaves a figure without a value that says why, and the others go on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vesalius.core.progress import Progress, no_progress
from vesalius.evaluate.model import EvaluatedModel
from vesalius.evaluate.references import HELD_OUT, REAL, TRAIN
from vesalius.evaluate.sets import ComparedSet
from vesalius.models.networks.clip import Clip
from vesalius.models.networks.vqa import Answerer
from vesalius.statistics.figure import Figure, Measured, measured, missing

COPY_DETECTORS = (
    "sscd",
)  # trained to recognise single images, not to say how alike their kinds are
NEAR = 1.25  # times the figure of real images: as good as they are
P = 0.05

Kind = Literal["good", "bad", "unknown"]
Sentence = tuple[Kind, str]
Figures = Sequence[Measured]


@dataclass(frozen=True)
class Models:
    """The networks that are asked about images, and the generator that made them."""

    generator: EvaluatedModel | None = None
    clip: Clip | None = None
    vqa: Answerer | None = None


@dataclass(frozen=True)
class Case:
    """One synthetic set, what it is compared with, and how."""

    fake: ComparedSet
    references: Mapping[str, ComparedSet]  # train and held_out, or real: all there are
    compared: Mapping[str, ComparedSet]  # the same, or as many of each class as are synthetic
    classes: Sequence[str]
    extractors: Sequence[str]
    replicates: int = 200
    seed: int = 0
    device: str = "cpu"
    no_coin: str = ""  # why no fair coin decided who was trained on; "": one did
    store: Path | None = None  # for what was computed of images
    models: Models = field(default_factory=Models)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)  # of real images, for other sets
    progress: Progress = field(default=no_progress, repr=False)

    @property
    def comparable(self) -> list[str]:
        """Extractors whose features say what an image shows."""
        return [name for name in self.extractors if not name.startswith(COPY_DETECTORS)]

    @property
    def new(self) -> tuple[str, ComparedSet]:
        """The reference that the generator has not seen, where there is one."""
        name = reference_of(self.references)
        return name, self.references[name]

    @property
    def divided(self) -> bool:
        """Whether the real images are known to be seen or not seen."""
        return {TRAIN, HELD_OUT} <= {*self.references}


@dataclass
class Result:
    """What a metric found for one synthetic set."""

    figures: list[Measured] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # curves, pairs, thresholds: for JSON
    notes: list[str] = field(default_factory=list)  # what a reader must know

    def add(self, part: str, figures: Iterable[Figure], **where: str) -> None:
        """Keep figures in their place."""
        self.figures += [measured(part, figure, **where) for figure in figures]

    def leave_out(self, part: str, metric: str, why: str, **where: str) -> None:
        """Keep the reason why a figure has no value."""
        self.figures.append(missing(part, metric, why, **where))

    def join(self, other: "Result") -> None:
        """Take what another metric found."""
        self.figures += other.figures
        self.details |= other.details
        self.notes += other.notes


@dataclass(frozen=True)
class Question:
    """What a reader asks of a set, answered from its figures and the name of its reference.

    `sentences` say what is good, bad and not known, with their numbers, so that a reader can disagree;
    `answer` is the one line at the top of the report, empty where nothing was measured. What is good
    `of_training` images holds only where it is known which ones they are.
    """

    text: str
    sentences: Callable[[Figures, str], Iterable[Sentence]]
    answer: Callable[[Figures, str], str]
    text_by: str = ""  # the question where classes come from another column, {by}
    of_training: bool = False  # whether it asks of the images that the model was trained on


@dataclass(frozen=True)
class Metric:
    """One part of an evaluation. docs/extending.md shows how another package adds one."""

    measure: Callable[[Case], Result]
    names: Mapping[str, str]  # of its figures, for a reader
    questions: tuple[Question, ...] = ()
    of_model: bool = False  # measured once, of the generator itself, instead of each set


def reference_of(references: Iterable[str]) -> str:
    """What a set is compared with: images that the generator never saw, where there are any."""
    known = {*references}
    return next(name for name in (HELD_OUT, REAL, TRAIN) if name in known)


def span(figure: Measured, how: str = ".2f") -> str:
    """The interval in words."""
    if figure.low is None or figure.high is None:
        return "no interval"
    return f"{figure.low:{how}} to {figure.high:{how}}"
