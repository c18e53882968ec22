"""The training loop.

Every random draw is a function of (seed, images seen), so a run that was stopped and resumed takes
the same steps as one that was not.
"""

import copy
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path
from vesalius.train.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from vesalius.train.methods import Method, generator, row_weights

LOG_EVERY_STEPS = 20


def learning_rate(seen: int, plan: Optimisation) -> float:
    """Warm-up, constant, then linear decay to zero at the end (WSD), as a function of images seen.

    A plateau before a short decay lets a run be lengthened or cut short without a new schedule.
    """
    warm = min(1.0, (seen + plan.batch) / plan.warmup_images) if plan.warmup_images else 1.0
    left = max(0, plan.seen_images - seen)
    cool = min(1.0, left / plan.decay_images) if plan.decay_images else 1.0
    return plan.lr * warm * cool


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, batch: int, half_life: int) -> None:
    """Exponential moving average of the weights: after `half_life` images a weight counts half."""
    decay = 0.5 ** (batch / half_life)
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


@dataclass
class RunState:
    """Where a run stands; all that a checkpoint needs besides tensors."""

    seen_images: int = 0
    best_loss: float = float("inf")
    best_seen_images: int = 0
    seconds: float = 0.0


@dataclass
class Log:
    """JSON lines, one an event, appended and flushed at once."""

    path: Path
    pending: list[dict[str, Tensor]] = field(default_factory=list)

    def write(self, **values: object) -> None:
        """Append one event."""
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(values) + "\n")

    def means(self) -> dict[str, float]:
        """Mean of every loss since the last call: the only place that waits for the device."""
        keys = self.pending[0] if self.pending else {}
        means = {k: torch.stack([row[k] for row in self.pending]).mean().item() for k in keys}
        self.pending.clear()
        return means


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag that is read between steps, so that a step is whole."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(method: Method, plan: Optimisation, out: Path, resume: bool = False) -> Path:
    """Train `method` as `plan` says and return the folder of its best weights, `out`/best.

    `out` receives log.jsonl, checkpoints/ and best/ (the averaged weights with the lowest
    validation loss). With `resume` it goes on from the newest checkpoint there.

    Raises KeyboardInterrupt after saving when interrupted, VesaliusError when the loss is not
    finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    module = method.module
    average = copy.deepcopy(module).requires_grad_(False) if plan.ema_half_life_images else None
    optimiser = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=plan.lr,
        betas=plan.betas,
        weight_decay=plan.weight_decay,
    )
    state, log = RunState(), Log(out / "log.jsonl")
    newest = newest_checkpoint(out / "checkpoints")
    if newest and not resume:
        raise VesaliusError(f"{out} holds a run already: pass --resume or choose another --out")
    if newest:
        state = RunState(**load_checkpoint(newest, module, average, optimiser))
    if plan.compile:
        module.compile()  # in place: the names of its weights, and so checkpoints, stay the same
    weights = row_weights(method.sources, plan.temperature)

    def checkpoint() -> None:
        save_checkpoint(out / "checkpoints", module, average, optimiser, vars(state))

    def validate() -> None:
        figures = method.validate(average or module)
        log.write(seen_images=state.seen_images, validation=figures)
        if figures["loss"] < state.best_loss:
            state.best_loss, state.best_seen_images = figures["loss"], state.seen_images
            with atomic_path(out / "best") as temporary:
                method.save(average or module, temporary)

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[loss]} {task.fields[rate]:.1f} img/s"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
    )
    with bar, stop_signals() as stopping:
        task = bar.add_task(method.name, total=plan.seen_images, loss="", rate=0.0)
        started, since, since_images = time.monotonic(), time.monotonic(), state.seen_images
        before = state.seconds
        while state.seen_images < plan.seen_images:
            draw = generator(plan.seed, method.name, state.seen_images)
            rows = torch.multinomial(weights, plan.batch, replacement=True, generator=draw)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(state.seen_images, plan)
            losses = method.loss(rows, draw)
            losses["loss"].backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), plan.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if average is not None:
                # A young run averages over its own age, or the initial weights would weigh in.
                half_life = min(plan.ema_half_life_images, state.seen_images // 4 + plan.batch)
                update_average(average, module, plan.batch, half_life)
            log.pending.append({k: v.detach() for k, v in losses.items()} | {"norm": norm})
            previous, state.seen_images = state.seen_images, state.seen_images + plan.batch
            state.seconds = before + time.monotonic() - started

            def passed(interval: int, previous: int = previous) -> bool:
                return state.seen_images // interval > previous // interval

            last = state.seen_images >= plan.seen_images
            saving = passed(plan.checkpoint_images) or last or stopping()
            # Before a checkpoint too: weights that are not finite must never replace good ones.
            if passed(LOG_EVERY_STEPS * plan.batch) or saving:
                means, now = log.means(), time.monotonic()
                rate = (state.seen_images - since_images) / (now - since)
                since, since_images = now, state.seen_images
                if not all(torch.isfinite(torch.tensor(value)) for value in means.values()):
                    raise VesaliusError(
                        f"the loss is not finite after {state.seen_images} images ({means}): "
                        "lower the learning rate and --resume from the last checkpoint"
                    )
                log.write(
                    seen_images=state.seen_images,
                    seconds=round(state.seconds, 1),
                    img_per_sec=round(rate, 2),
                    lr=learning_rate(previous, plan),
                    **means,
                )
                bar.update(
                    task, completed=state.seen_images, loss=f"loss {means['loss']:.4f}", rate=rate
                )
            if passed(plan.validate_images) or last:
                validate()
            if saving:
                checkpoint()
            if saving and stopping():
                raise KeyboardInterrupt(
                    f"interrupted after {state.seen_images:,} images: saved, go on with --resume"
                )
    return out / "best"
