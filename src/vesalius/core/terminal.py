"""What the command line shows: progress, warnings, tables. Everything but results is on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vesalius.core.waiting import told
from vesalius.core.words import duration
from vesalius.errors import one_line

LOG_SECONDS = 30  # between two lines of progress where there is no terminal


@dataclass
class _Lines:
    """Progress in a log file: a line now and then, with the time left where that is known."""

    what: str
    said: float = field(default_factory=lambda: time.monotonic())
    first: tuple[float, float] | None = None  # when progress was first seen, and how much it was

    def __call__(self, text: str, done: float, of: float | None) -> None:
        now = time.monotonic()
        began, before = self.first = self.first or (now, done)
        if now - self.said < LOG_SECONDS:
            return
        self.said = now
        if of and before < done < of:
            text += f"  {duration((of - done) * (now - began) / (done - before))} left"
        print(f"{self.what}: {text}", file=sys.stderr, flush=True)


@contextmanager
def image_progress(
    what: str = "generating", first: str = ""
) -> Iterator[Callable[[float, int | None], None]]:
    """A progress bar with rate and time left, as a function of (images done, images in all).

    Images in all may be None where nobody knows; then there is no time left.
    It appears with the first step, so that its rate leaves out the time the model takes to load.
    Until then a line says what comes `first`, should that take more than a second. Where there is
    no terminal, a line each half minute takes the bar's place.
    """
    console, lines = Console(stderr=True), _Lines(what)
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.fields[count]}  {task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(what, total=None, count="", rate="")
    started: list[float] = []  # when the first images were counted, and how many were done then

    def update(done: float, images: int | None) -> None:
        now = time.monotonic()
        if not started:
            begun()
            started.extend((now, done))
            bar.start()
        rate = say_rate(done - started[1], now - started[0])
        count = f"{int(done)}/{images}" if images else f"{int(done)}"
        bar.update(task, completed=done, total=images, count=count, rate=rate)
        if bar.disable:
            lines(f"{count}  {rate}".strip(), done, images)

    with told(first, say) if first else nullcontext(lambda: None) as begun:
        try:
            yield update
        finally:
            if started:
                bar.stop()


@contextmanager
def training_progress(name: str, seen: int, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar of a training, as a function of (images seen, figures in words).

    Where there is no terminal, a line each half minute takes its place.
    """
    console, lines = Console(stderr=True), _Lines(name)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(name, total=total, completed=seen, figures="")

        def update(seen: int, figures: str) -> None:
            bar.update(task, completed=seen, figures=figures)
            if bar.disable:
                lines(f"{seen:,} of {total:,} images seen  {figures}".strip(), seen, total)

        yield update


def say_rate(images: float, seconds: float) -> str:
    """`2.5 img/s`, or `4.0 s/img` where an image takes longer than a second."""
    if images <= 0 or seconds <= 0:
        return ""
    per_second = images / seconds
    return f"{per_second:.1f} img/s" if per_second >= 1 else f"{1 / per_second:.1f} s/img"


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {one_line(message)}", file=sys.stderr)


def say(message: str) -> None:
    """Print a message on stderr."""
    print(message, file=sys.stderr)


def print_info(facts: dict[str, Any]) -> None:
    """Print what `info.describe` found out."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("  ".join(f"{name} {number}" for name, number in facts["versions"].items()))

    table = Table("device", "", "dtype", "taken by auto", box=None, title_justify="left")
    for row in facts["devices"]:
        table.add_row(row["device"], row["about"], row["dtype"], row["auto"])
    console.print("", table)

    console.print("\nbundled models:" + ("" if facts["models"] else " none in this installation"))
    for model in facts["models"]:
        if "broken" in model:
            console.print(f"  {model['name']}: broken: {model['broken']}", markup=False)
            continue
        millions, megabytes = model["parameters"] / 1e6, model["bytes"] / 1e6
        about = f"{millions:.0f} M parameters, {megabytes:.0f} MB, licence: {model['licence']}"
        console.print(f"  {model['name']}: {about}", markup=False)

    console.print("\nextras:" + ("" if facts["extras"] else " none declared (run from source)"))
    for extra in facts["extras"]:
        state = "installed"
        if extra["missing"]:
            state = (
                f"pip install 'vesalius[{extra['extra']}]' (missing: {', '.join(extra['missing'])})"
            )
        console.print(f"  {extra['extra']}: {state}", markup=False)

    console.print(f"\nhub cache: {facts['hub_cache']}", markup=False)
    console.print(
        "Stable Diffusion: `vesalius generate PROMPT --model "
        "stable-diffusion-v1-5/stable-diffusion-v1-5` downloads it once (4 GB) and works offline "
        "from then on.",
        markup=False,
    )


def print_datasheet(document: dict[str, Any]) -> None:
    """Print what a user must know of a pairs table: its counts, then what was found, worst first."""
    console = Console(highlight=False, soft_wrap=True)
    splits = [name for name, images in document["splits"].items() if images]
    table = Table("source", "images", *splits, box=None)
    for row in document["sources"]:
        counts = (f"{row['images']:,}", *(f"{row[name]:,}" for name in splits))
        table.add_row(Text(row["name"]), *counts)
    if len(document["sources"]) > 1:
        counts = [document["images"], *(document["splits"][name] for name in splits)]
        table.add_row("all", *(f"{count:,}" for count in counts))
    console.print(table)
    for finding in document["findings"]:
        console.print(f"{finding['severity']}: {finding['message']}", markup=False)


def print_plan(lines: dict[str, str]) -> None:
    """Print what a dry run found out, one line a fact."""
    for name, value in lines.items():
        print(f"{name + ':':<14} {value}")
