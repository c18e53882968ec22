"""What an image costs, measured: seconds, and joules where the GPU reports its power.

Parameters and MACs are counted without running anything, by `vesalius.models.cost`, and stand
beside these. Energy is the GPU's own: `nvidia-smi` reports the power of the whole board, idle draw and
other people's work on it included, but not that of processor, memory or cooling.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from threading import Thread
from typing import Any

import torch

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.base import Case, Metric, Result
from vesalius.models.cost import Cost, cost_of
from vesalius.models.generator import Generator
from vesalius.statistics.figure import Figure

POLL_MS = 100
_LEAST_READINGS = 3  # within the time measured
NO_READING = "not measured: no GPU power reading"
IMAGES = 2  # of a run


def measure(case: Case) -> Result:
    """Parameters, MACs by both countings, measured seconds and joules."""
    result, model = Result(), case.models.generator
    if model is None:
        result.leave_out("cost", "seconds_per_image", "no model was named: give --model")
        return result
    with case.progress("cost") as count:
        count(0, IMAGES)
        spent = time_images(model.make, IMAGES, device=case.device)
    report = cost_report(model.generator, spent)
    result.details["cost"] = report
    where = {"extractor": model.name}
    for part, number in report["parameters"].items():
        result.add("cost", [Figure("parameters", float(number))], of=part, **where)
    for part, macs in report["macs"].items():
        figures = [Figure(f"macs {counting}", float(number)) for counting, number in macs.items()]
        result.add("cost", figures, of=part, **where)
    runs = spent.runs
    # least and most of the runs are no 95 % interval
    seconds = Figure(
        "seconds_per_image", spent.seconds_per_image, n=IMAGES,
        note=f"median of {len(runs)} runs, {min(runs):.3g} to {max(runs):.3g}, on {spent.device}",
        details={"least": min(runs), "most": max(runs)},
    )  # fmt: skip
    joules = Figure("joules_per_image", spent.joules_per_image, note=spent.note)
    result.add("cost", [seconds, joules], **where)
    return result


@dataclass(frozen=True)
class Spent:
    """Time and energy of an image; `runs` are the seconds an image of each repetition."""

    device: str
    images: int  # of one run
    seconds_per_image: float  # the median of the runs
    runs: list[float]
    joules_per_image: float | None
    watts: float | None  # mean over all runs
    note: str = ""  # why there are no joules


@dataclass
class Power:
    """Readings of a GPU's power: seconds (`time.perf_counter`) and watts."""

    times: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)

    def joules(self, start: float, end: float) -> float | None:
        """Energy from `start` to `end`: the mean of the readings between; None for too few."""
        inside = [w for t, w in zip(self.times, self.watts, strict=True) if start <= t <= end]
        if len(inside) < _LEAST_READINGS:
            return None
        return statistics.fmean(inside) * (end - start)


def time_images(
    make: Callable[[int], object],
    images: int,
    *,
    device: torch.device | str = "cpu",
    runs: int = 3,
    warm: int = 1,
) -> Spent:
    """Time `make(images)`, which makes so many images and returns when they are made.

    `warm` runs come first and do not count: kernels are chosen and compiled there. Runs should take
    some seconds each: a GPU reports its power about ten times a second.
    Raises VesaliusError for no images or no runs.
    """
    if images < 1 or runs < 1:
        raise VesaliusError(f"nothing to measure: {images} images, {runs} runs")
    place = torch.device(device)
    for _ in range(warm):
        make(images)
    spans: list[tuple[float, float]] = []
    with power_of(place) as power:
        for _ in range(runs):
            _wait(place)
            start = time.perf_counter()
            make(images)
            _wait(place)
            spans.append((start, time.perf_counter()))
    seconds = [(end - start) / images for start, end in spans]
    joules = [power.joules(*span) for span in spans]
    read = [each for each in joules if each is not None]
    whole = len(read) == runs
    note = (
        "" if whole else NO_READING if not power.watts else "not measured: the runs are too short"
    )
    return Spent(
        device=_name(place),
        images=images,
        seconds_per_image=statistics.median(seconds),
        runs=seconds,
        joules_per_image=statistics.median(read) / images if whole else None,
        watts=sum(read) / sum(end - start for start, end in spans) if whole else None,
        note=note,
    )


def cost_report(generator: Generator, measured: Spent | None = None) -> dict[str, Any]:
    """Parameters, MACs by both countings and what was measured, for JSON.

    `macs` are of one call of the denoiser and of decoding, for one image of the native size:
    guidance calls twice a step. `by_layers` is what papers quote, `products` is every product.
    """
    cost: Cost = cost_of(generator)
    return {
        "model": cost.name,
        "size": list(cost.size),
        "tokens": cost.tokens,
        "parameters": cost.parameters,
        "macs": {
            part: {"by_layers": macs.by_layers, "products": macs.products}
            for part, macs in (("denoiser_step", cost.step), ("decoding", cost.decoding))
        },
        "measured": asdict(measured) if measured else None,
    }


@contextmanager
def power_of(device: torch.device) -> Iterator[Power]:
    """Read the power of a CUDA device all the while; without one, or nvidia-smi, nothing is read."""
    power = Power()
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    if device.type != "cuda":
        yield power
        return
    # by its id: nvidia-smi does not know which devices CUDA_VISIBLE_DEVICES hides
    uuid = torch.cuda.get_device_properties(device).uuid
    command += [f"--id=GPU-{uuid}", f"--loop-ms={POLL_MS}"]
    with _reading(command, power):
        yield power


@contextmanager
def _reading(command: list[str], power: Power) -> Iterator[None]:
    """Append each line that `command` prints to `power`, until the block ends."""
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:  # no such program
        yield
        return

    def read() -> None:
        for line in process.stdout or ():
            try:
                watts = float(line)
            except ValueError:  # "[N/A]": a part of a GPU, or an old driver
                continue
            power.times.append(time.perf_counter())
            power.watts.append(watts)

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        process.terminate()
        process.wait()
        reader.join()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


METRIC = Metric(
    measure,
    {"seconds_per_image": "Cost (seconds an image)", "joules_per_image": "Cost (joules an image)"},
    of_model=True,
)
