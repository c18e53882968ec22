"""How long a training takes: its own parts, run on a few of its images, and what they need added up."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vesalius.config import Optimisation
from vesalius.core.words import about, about_on
from vesalius.models.text import encode_prompts
from vesalius.train.loop import Run, open_run, save, take_step, validate
from vesalius.train.method import Method
from vesalius.train.session import Session

STEP_SECONDS = 3.0  # for the steps of one stage, after the first, which chooses kernels
MOST_STEPS = 8
QUICK_FLOPS = 3e11  # of the images of a step that is timed on a CPU


@dataclass
class Watch:
    """Stands in for progress bars: how long one image took of what was counted."""

    each: float = 0.0  # seconds an image, of all that was counted
    spent: float = 0.0  # seconds until the last image of each

    @contextmanager
    def __call__(self, _what: str) -> Iterator[Callable[[float, int | None], None]]:
        marks: list[tuple[float, float]] = []
        began = time.monotonic()
        yield lambda done, _total: marks.append((time.monotonic(), done)) if done else None
        if not marks:
            return
        (first, some), (last, done) = marks[0], marks[-1]
        self.spent += last - began
        # the first batch chooses kernels
        self.each += (last - first) / (done - some) if done > some else (last - began) / done


@dataclass(frozen=True)
class Timed:
    """Seconds that parts of a run take, by trial."""

    steps: tuple[float, ...]  # one step of each of its stages
    validation: float  # of one image
    checkpoint: float  # the weights that come out included


@dataclass
class Duration:
    """Seconds of a training by what they go to; the words of `vesalius train --dry-run`."""

    device: str
    parts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, seconds: float) -> None:
        """Count seconds towards a part."""
        self.parts[what] = self.parts.get(what, 0.0) + seconds

    def add_run(
        self, name: str, timed: Timed, plan: Optimisation, ends: tuple[int, ...], held_out: int
    ) -> None:
        """Count steps, validations and checkpoints of a run whose stages end after so many images."""
        begins = (0, *ends[:-1])
        for step, begin, end in zip(timed.steps, begins, ends, strict=True):
            self.add(f"{name} steps".strip(), step * -(-(end - begin) // plan.batch))
        images = min(plan.validation_size, held_out) * events(plan, plan.validate_images)
        self.add("validation", timed.validation * images)
        self.add("checkpoints", timed.checkpoint * events(plan, plan.checkpoint_images))

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        shown = sorted(self.parts.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{name} {about(took)}" for name, took in shown if took >= 0.5)
        text = about_on(self.seconds, self.device)
        text += f" ({parts})" if parts else ""
        return "; ".join([text, *self.notes])


def few_images(device: str) -> int:
    """Of each split: how many are encoded to see how long one takes."""
    return 16 if torch.device(device).type == "cpu" else 192


def seconds_a_caption(
    tokenizer: Any, text_encoder: Any, captions: list[str], chunks: int = 1
) -> float:
    """Seconds in which the text encoder reads one caption, the best of two batches of a few."""
    some, took = captions[:8], list[float]()
    for _ in range(2):
        began = time.monotonic()
        encode_prompts(tokenizer, text_encoder, some, chunks)
        took.append(time.monotonic() - began)
    return min(took) / len(some)


def events(plan: Optimisation, interval: int) -> int:
    """How often a run does what it does after so many images, and at its end."""
    images = -(-plan.seen_images // plan.batch) * plan.batch
    return -(-images // interval)


def quick_plan(plan: Optimisation, flops: float | None, device: str) -> Optimisation:
    """The plan with a batch that a CPU gets through in a few seconds, and nothing around its steps."""
    images = plan.micro or plan.batch
    batch = plan.batch
    if torch.device(device).type == "cpu":
        most = 64 if flops is None else max(1, int(QUICK_FLOPS / flops))
        if batch > most:
            batch = images = max(1 if flops is not None else 2, min(images, most))
    else:
        batch = images
    return plan.model_copy(
        update={"batch": batch, "micro": images, "compile": False, "loggers": []}
    )


def time_method(
    method: Method, plan: Optimisation, folder: Path, begins: tuple[int, ...] = (0,)
) -> Timed:
    """Take a few steps of a method at the beginning of each stage, validate it and save it.

    It is changed by that, and the folder written into; torch's own random state stays.
    """
    device = str(next(method.module.parameters()).device)
    quick = quick_plan(plan, method.flops_per_image(), device)
    with torch.random.fork_rng():
        run = open_run(method, quick, folder, Session(device))
        steps = []
        for seen in begins:
            run.state.seen_images = seen
            steps.append(_step_seconds(run, device) * plan.batch / quick.batch)
        began = time.monotonic()
        figures_of = min(plan.validation_size, _held_out(method))
        validate(run)
        validated = time.monotonic()
        save(run)
        saved = time.monotonic() - validated
    run.log.close()
    return Timed(tuple(steps), (validated - began) / max(1, figures_of), saved)


def _held_out(method: Any) -> int:
    """Rows that a method validates on."""
    if rows := getattr(method, "validation_rows", None):
        return len(rows)
    return max((len(rows) for rows, *_ in getattr(method, "validation", ())), default=1)


def _step_seconds(run: Run, device: str) -> float:
    """Seconds of a step: the middle one of a few."""

    def step() -> float:
        began = time.monotonic()
        take_step(run)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        return time.monotonic() - began

    first, taken = step(), []
    began = time.monotonic()
    while len(taken) < MOST_STEPS and time.monotonic() - began < STEP_SECONDS - min(first, 2.0):
        taken.append(step())
    return sorted(taken)[len(taken) // 2] if taken else first
