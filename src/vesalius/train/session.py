"""Where a training runs, whom it calls back, and what it returns."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from vesalius.core.progress import Progress, no_progress
from vesalius.models.generator import Generator

Say = Callable[[str], None]
# Draws one image a prompt with a generator; given by the caller, as training cannot sample itself.
Sampler = Callable[[Generator, list[str]], list[Image.Image]]
# Of a run's name, images seen before and images in all: takes images seen and figures in words.
Steps = Callable[[str, int, int], AbstractContextManager[Callable[[int, str], None]]]


def no_steps(
    _name: str, _seen: int, _total: int
) -> AbstractContextManager[Callable[[int, str], None]]:
    """Says nothing."""
    return nullcontext(lambda seen, figures: None)


def silent(_message: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Session:
    """Where a training runs and whom it calls back: by default on the CPU, and nobody."""

    device: str = "cpu"
    resume: bool = False  # go on with a stopped run
    progress: Progress = no_progress  # of images that are encoded or decoded
    steps: Steps = no_steps  # of the training itself
    on_message: Say = silent
    on_warning: Say = silent
    sampler: Sampler | None = None  # for recipes that ask for samples


@dataclass(frozen=True)
class Trained:
    """What a training has made."""

    folder: Path  # of the result, or of several adapters, each in LABEL/adapter
    kind: Literal["generator", "adapter", "adapters", "text encoder"]
    seen_images: int
    seconds: float
    best_loss: float | None  # on held-out rows; of several adapters the mean
    adapters: tuple[Path, ...] = ()  # of several, one a label: where each is

    def __repr__(self) -> str:
        loss = "" if self.best_loss is None else f", best validation loss {self.best_loss:.4f}"
        return f"{self.kind} in {self.folder}: {self.seen_images:,} images seen{loss}"
