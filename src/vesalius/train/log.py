"""What a run logs: JSON lines, other people's loggers, rates and utilisation."""

import importlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.errors import VesaliusError
from vesalius.train.distributed import mean_over_ranks, rank, world_size

# Dense bfloat16 TFLOP/s by the makers' data sheets, the most specific name first. Where a card
# is half as fast with float32 sums, which training needs, that figure stands.
PEAK_TFLOPS = {
    "B200": 2250,
    "H200 NVL": 835,
    "H200": 989,
    "GH200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "A40": 150,
    "A10G": 70,
    "L40S": 362,
    "L4": 121,
    "RTX 6000 Ada": 364,
    "RTX 5090": 209,
    "RTX 4090": 165,
    "RTX 3090": 71,
}

# Slower or faster than the card whose name they bear; of MIG a part.
OTHER_CARD = re.compile(r"\b(MIG|Laptop|Max-Q|Ti|SUPER|D)\b")

Values = Mapping[str, float]


@dataclass
class Sink:
    """Somebody else's logger: takes values by name at an image count, and is closed."""

    write: Callable[[Values, int], object]
    close: Callable[[], object]


@dataclass
class Log:
    """`path`, one JSON line an event, flushed at once; and the numbers of each to every sink.

    Only the first process writes. `pending` holds the losses of each step on the device, where
    they stay until the means are asked for.
    """

    path: Path
    sinks: list[Sink] = field(default_factory=list)
    pending: list[dict[str, Tensor]] = field(default_factory=list)

    def write(self, seen_images: int, **values: object) -> None:
        """Append one event."""
        if rank() != 0:
            return
        line = json.dumps({"seen_images": seen_images} | values) + "\n"
        with clear_write_errors(self.path, 10**6), self.path.open("a", encoding="utf-8") as lines:
            lines.write(line)
        numbers = dict(flat(values))
        for sink in self.sinks:
            sink.write(numbers, seen_images)

    def means(self) -> dict[str, float]:
        """Mean of every loss since the last call over steps and processes.

        The only place that waits for the device.
        """
        names = list(self.pending[0])
        device = self.pending[0][names[0]].device
        columns = [torch.stack([row[name].float() for row in self.pending]) for name in names]
        self.pending.clear()
        means = torch.stack([column.mean().to(device) for column in columns])
        return dict(zip(names, mean_over_ranks(means).tolist(), strict=True))

    def rewind(self, seen_images: int) -> None:
        """Remove the events after `seen_images`: those steps will be repeated."""
        if rank() != 0 or not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["seen_images"] <= seen_images:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # a line that a kill cut short
        with clear_write_errors(self.path, 10**6), atomic_path(self.path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

    def close(self) -> None:
        """Let every sink send what it still holds."""
        for sink in self.sinks:
            sink.close()


@dataclass
class Clock:
    """Time of a run and rate of its steps, pauses and the first step left out of the rate."""

    since_images: int
    before: float  # seconds of the parts of the run before this one
    first_step_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Of the whole run so far."""
        return self.before + time.monotonic() - self.began

    def after_first_step(self, seen_images: int) -> None:
        """Wait for the first step, which compiles and chooses kernels, and take its time."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.first_step_seconds = round(time.monotonic() - self.began, 2) or 0.01
        self.go_on(seen_images)

    def go_on(self, seen_images: int) -> None:
        """Begin a new stretch of steps."""
        self.since, self.since_images = time.monotonic(), seen_images

    def rate(self, seen_images: int) -> float:
        """Images a second since the last call; 0 where nothing has been timed since."""
        now, images = time.monotonic(), seen_images - self.since_images
        rate = images / max(now - self.since, 1e-9)
        self.go_on(seen_images)
        return rate


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """The numbers of nested mappings, named as `validation/loss`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield prefix + name, float(value)


def open_log(out: Path, loggers: Iterable[str], settings: Mapping[str, Any]) -> Log:
    """The log of the run in `out`, with the sinks named; `settings` is what they show as its own.

    Raises VesaliusError naming the package that a logger lacks.
    """
    log = Log(out / "log.jsonl")
    check_loggers(loggers)  # in every process, so that all stop where one is missing
    if rank() == 0:
        log.sinks += [SINKS[name](out, settings) for name in loggers]
    return log


def check_loggers(loggers: Iterable[str]) -> None:
    """Raise VesaliusError naming the package that a logger lacks."""
    for name in loggers:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise VesaliusError(
                f"optimisation.loggers: {name} is not installed: pip install {name}, or leave it out"
            ) from error


def _tensorboard(out: Path, settings: Mapping[str, Any]) -> Sink:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(out / "tensorboard"))
    writer.add_text("settings", json.dumps(dict(settings), default=str))

    def write(values: Values, seen_images: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, seen_images)

    return Sink(write, writer.close)


def _wandb(out: Path, settings: Mapping[str, Any]) -> Sink:
    wandb: Any = importlib.import_module("wandb")
    # The same id in every part of a run: a resumed run continues its own curves.
    run = wandb.init(
        project="vesalius",
        name=run_name(out),
        id=run_name(out).replace("/", "-"),
        resume="allow",
        dir=str(out),
        config=dict(settings),
    )
    return Sink(lambda values, seen_images: run.log(dict(values), step=seen_images), run.finish)


def _mlflow(out: Path, settings: Mapping[str, Any]) -> Sink:
    mlflow: Any = importlib.import_module("mlflow")
    mlflow.set_experiment("vesalius")
    mlflow.start_run(run_name=run_name(out))
    mlflow.log_params(dict(settings))
    return Sink(
        lambda values, seen_images: mlflow.log_metrics(dict(values), step=seen_images),
        mlflow.end_run,
    )


SINKS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def run_name(out: Path) -> str:
    """`run/stage` of a stage's folder."""
    out = out.absolute()
    return f"{out.parent.name}/{out.name}"


def utilisation(
    flops_per_image: float | None, img_per_sec: float, device: torch.device, precision: str
) -> float | None:
    """Model FLOPs utilisation: the share of the devices' peak (Chowdhery et al. 2022, MFU).

    None where the method does not know its FLOPs, the device is not in the table, or the run does
    not compute in bfloat16.
    """
    if flops_per_image is None or device.type != "cuda" or precision != "bfloat16":
        return None
    name = torch.cuda.get_device_name(device)
    # as whole words: an RTX A4000 is no A40, and an L40 no L4
    known = (tera for card, tera in PEAK_TFLOPS.items() if re.search(rf"\b{card}\b", name))
    tera = next(known, None)
    if tera is None or OTHER_CARD.search(name):
        return None
    return flops_per_image * img_per_sec / (tera * 1e12 * world_size())
