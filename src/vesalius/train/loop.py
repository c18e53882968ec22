"""The training loop.

Every random draw is a function of (seed, images seen, block of the batch), so a run that was
stopped and resumed takes the same steps as one that was not, and any number of processes takes
the steps that one would. Inside a step nothing waits for the device.
"""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vesalius.config import Optimisation
from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.errors import VesaliusError
from vesalius.images.sheets import contact_sheet
from vesalius.train import distributed as ranks
from vesalius.train.average import Averages, start_averages, swapped, update_averages
from vesalius.train.checkpoint import (
    check_checkpoint,
    gather,
    load_checkpoint,
    save_checkpoint,
)
from vesalius.train.checks import begun
from vesalius.train.draws import generator
from vesalius.train.log import Clock, Log, open_log, utilisation
from vesalius.train.method import Method
from vesalius.train.modes import (
    checkpoint_gradients,
    evaluating,
    parts_of,
    uncompiled,
    use_fast_arithmetic,
)
from vesalius.train.optimiser import build_optimiser, learning_rate, micro_batch
from vesalius.train.resuming import made_with
from vesalius.train.session import Session, Trained, no_steps

LOG_EVERY_STEPS = 20


@dataclass
class RunState:
    """Where a run stands; all that a checkpoint needs besides tensors."""

    seen_images: int = 0
    best_loss: float | None = None
    best_seen_images: int = 0
    seconds: float = 0.0
    kept: dict[str, Any] = field(default_factory=dict)  # the method's own


@dataclass(frozen=True)
class Finished:
    """Where a run has ended."""

    best: Path  # the folder of the weights that come out
    state: RunState

    def trained(
        self, folder: Path, kind: Literal["generator", "adapter", "text encoder"]
    ) -> Trained:
        """The result of a training of which this run was the last part."""
        state = self.state
        return Trained(folder, kind, state.seen_images, state.seconds, state.best_loss)


@dataclass
class Run:
    """What the loop works on."""

    method: Method
    plan: Optimisation
    out: Path
    micro: int  # images a forward pass
    weights: dict[str, nn.Parameter]  # what is trained, by its name in the module
    averages: Averages
    optimiser: torch.optim.Optimizer
    log: Log
    whole: Callable[[], nn.Module]  # the module with whole weights, for saving
    state: RunState = field(default_factory=RunState)

    @property
    def average(self) -> dict[str, Tensor] | None:
        """The averaged weights that are validated, sampled and saved."""
        return next(iter(self.averages.values()), None)


def train(
    method: Method,
    plan: Optimisation,
    out: Path,
    session: Session | None = None,
    distributed: Literal["ddp", "fsdp"] = "ddp",
) -> Finished:
    """Train `method` as `plan` says; its best weights are in `out`/best.

    `out` receives log.jsonl, checkpoints/, best/ (the averaged weights with the lowest validation
    loss, or the last ones of a method that `keeps_last`) and, where the method draws samples,
    samples/. A session with `resume` continues from the newest whole checkpoint there. Under torchrun the
    processes share each batch; `distributed` says whether each holds the whole model or a part.

    Raises KeyboardInterrupt after saving when interrupted; VesaliusError when the loss is not
    finite, the disk is full or the checkpoints there are of another run.
    """
    session = session or Session()
    run = open_run(method, plan, out, session, distributed)
    state, clock = run.state, Clock(run.state.seen_images, run.state.seconds)
    show = no_steps if ranks.rank() else session.steps
    shown = show(method.name, state.seen_images, plan.seen_images)
    figures = ""
    with closing(run.log), shown as show_step, stop_signals() as asked:
        if state.best_loss is None and state.seen_images >= plan.seen_images:
            validate(run)  # cut short at what was seen before its first validation
        while state.seen_images < plan.seen_images:
            previous = state.seen_images
            run.log.pending.append(take_step(run))
            state.seen_images += plan.batch
            if not clock.first_step_seconds:  # compilation is in it: it counts in no rate
                clock.after_first_step(state.seen_images)
                run.log.write(previous, first_step_seconds=clock.first_step_seconds)
            state.seconds = clock.seconds()

            def passed(interval: int, previous: int = previous) -> bool:
                return interval > 0 and state.seen_images // interval > previous // interval

            last, stopping = state.seen_images >= plan.seen_images, ranks.any_rank(asked())
            validating = passed(plan.validate_images) or last
            sampling = passed(plan.sample_images) and method.sample is not None
            saving = passed(plan.checkpoint_images) or last or stopping
            pausing = validating or sampling or saving
            # Before a checkpoint too: weights that are not finite must never replace good ones.
            if passed(LOG_EVERY_STEPS * plan.batch) or pausing:
                figures = log_means(run, learning_rate(previous, plan), clock)
            show_step(state.seen_images, figures)
            if validating:
                validate(run)
            if sampling:
                draw_samples(run)
            if saving:
                save(run)
            if stopping:
                raise KeyboardInterrupt(
                    f"interrupted after {state.seen_images:,} images: saved, continue with --resume"
                )
            if pausing:
                clock.go_on(state.seen_images)
    return Finished(out / "best", state)


def take_step(run: Run) -> dict[str, Tensor]:
    """One step: the gradient, the optimiser, and the averages that follow the weights.

    Returns what is logged of it, on the device.
    """
    method, plan, seen = run.method, run.plan, run.state.seen_images
    method.before_step(seen)
    if method.gradient:
        logged = method.gradient(run.weights, seen // plan.batch, plan.micro)
    else:
        logged = take_gradient(run)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(seen, plan) * group["lr_scale"]
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    method.after_step()
    update_averages(run.averages, run.weights, seen, plan.batch)
    return logged


def take_gradient(run: Run) -> dict[str, Tensor]:
    """The clipped gradient of a global batch, of which this process takes its blocks; nothing waits.

    Returns the means of its losses and the norm of the whole gradient, on the device.
    """
    method, plan, seen = run.method, run.plan, run.state.seen_images
    weights, means = run.weights.values(), {}
    # The next batch: rows of the table, drawn by their weights.
    draw = generator(plan.seed, method.name, seen)
    rows = torch.multinomial(method.row_weights, plan.batch, replacement=True, generator=draw)
    if next(iter(weights)).device.type == "cuda":
        rows = rows.pin_memory()  # a method's copy to the device need not wait then
    blocks = rows.split(run.micro)
    own = len(blocks) // ranks.world_size()
    # The loss and its gradient, block by block.
    for block in range(ranks.rank() * own, (ranks.rank() + 1) * own):
        draw = generator(plan.seed, method.name, seen, block)
        torch.manual_seed(draw.initial_seed())  # dropout inside a network draws from this one
        losses = method.loss(blocks[block], draw)
        (losses["loss"] / len(blocks)).backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach() / own
    ranks.sum_gradients(weights)
    norm = nn.utils.clip_grad_norm_(weights, plan.clip_norm)
    return means | {"norm": norm.full_tensor() if isinstance(norm, DTensor) else norm}


def open_run(
    method: Method, plan: Optimisation, out: Path, session: Session, distributed: str = "ddp"
) -> Run:
    """Get a method ready for its next step: from the start, or where its newest checkpoint is."""
    device = next(method.module.parameters()).device
    ranks.join(device.type)
    # a method that makes its own gradient divides its own batch
    micro = plan.batch if method.gradient else micro_batch(plan, ranks.world_size())
    use_fast_arithmetic(device)
    out.mkdir(parents=True, exist_ok=True)
    newest = begun(out, session)
    parts = parts_of(method.module)
    if plan.gradient_checkpointing:
        checkpoint_gradients(parts)
    whole = lambda: method.module  # noqa: E731
    if distributed == "fsdp" and ranks.world_size() > 1:
        whole = ranks.shard(method.module, parts)
    if plan.compile == "auto":
        plan = plan.model_copy(update={"compile": device.type == "cuda"})
    if plan.compile:
        for part in parts:
            # In place: names of weights, and so checkpoints, stay the same. Code for shapes that
            # may be any is slower than that for each of a few.
            part.compile(dynamic=False if method.few_shapes else None)
    weights = {name: p for name, p in method.module.named_parameters() if p.requires_grad}
    ranks.share_weights(weights.values())
    averages = start_averages(weights, plan.ema_half_life_images)
    optimiser = build_optimiser(method, weights, plan)
    settings = made_with(method, plan)
    log = open_log(out, plan.loggers, settings)
    run = Run(method, plan, out, micro, weights, averages, optimiser, log, whole)
    if newest:
        check_checkpoint(newest, weights, settings)
        load_checkpoint(newest, weights, averages, optimiser)
        run.state = RunState(**newest.state)
        method.kept.update(run.state.kept)
        log.rewind(run.state.seen_images)
    run.state.kept = method.kept
    return run


def log_means(run: Run, lr: float, clock: Clock) -> str:
    """Log the means since the last time; return them in words.

    Raises VesaliusError where a loss or a gradient was not finite.
    """
    means = run.log.means()
    img_per_sec = clock.rate(run.state.seen_images)  # only now has the device done those steps
    refuse_infinite(run, means)
    device = next(iter(run.weights.values())).device
    share = utilisation(run.method.flops_per_image(), img_per_sec, device, run.plan.precision)
    figures = {"img_per_sec": round(img_per_sec, 2), "lr": lr} | means
    if share is not None:
        figures["mfu"] = round(share, 4)
    run.log.write(run.state.seen_images, seconds=round(run.state.seconds, 1), **figures)
    said = f"loss {means['loss']:.4f}" if "loss" in means else f"norm {means['norm']:.1e}"
    text = f"{said}  {img_per_sec:.1f} img/s"
    return text if share is None else f"{text}  MFU {share:.0%}"


def refuse_infinite(run: Run, figures: dict[str, float]) -> None:
    """Raise VesaliusError where a figure is not finite; every process has the same figures."""
    wrong = [name for name, value in figures.items() if not math.isfinite(value)]
    if wrong:
        raise VesaliusError(
            f"the {wrong[0]} is not finite after {run.state.seen_images:,} images: lower "
            f"optimisation.lr and train into another --out; the last good checkpoint stays in "
            f"{run.out / 'checkpoints'}"
        )


def validate(run: Run) -> None:
    """Log the method's figures for the averaged weights, and save those if they are the best.

    Those of a method that `keeps_last` are saved always.
    """
    method, state = run.method, run.state
    with as_validated(run):
        figures = method.validate(method.module)
        # Processes must agree to the bit, or some would wait for others to save.
        agreed = ranks.mean_over_ranks(torch.tensor([*figures.values()], dtype=torch.float64))
        figures = dict(zip(figures, agreed.tolist(), strict=True))
        refuse_infinite(run, {"validation loss": figures["loss"]})
        run.log.write(state.seen_images, validation=figures)
        better = state.best_loss is None or figures["loss"] < state.best_loss
        if not better and not method.keeps_last:
            return
        state.best_loss, state.best_seen_images = figures["loss"], state.seen_images
        module = run.whole()

        def write() -> None:
            needed = sum(weight.nbytes for weight in module.parameters())
            with (
                clear_write_errors(run.out / "best", needed),
                atomic_path(run.out / "best") as temporary,
            ):
                method.save(module, temporary)

        ranks.on_first_rank(write)


@contextmanager
def as_validated(run: Run) -> Iterator[None]:
    """The module with its averaged weights, evaluating, for a while."""
    module, compiled = run.method.module, run.plan.compile
    with swapped(run.weights, run.average), evaluating(module), uncompiled(bool(compiled)):
        yield


def draw_samples(run: Run) -> None:
    """Write a sheet of the method's own samples, drawn with the averaged weights."""
    assert run.method.sample is not None
    with as_validated(run), torch.no_grad():
        images = run.method.sample(run.method.module)

    def write() -> None:
        title = f"{run.method.name}, {run.state.seen_images:,} images seen"
        columns = math.ceil(math.sqrt(len(images)))
        sheet = contact_sheet(images, [""] * len(images), columns, title=title)
        path = run.out / "samples" / f"{run.state.seen_images:010d}.png"
        with (
            clear_write_errors(path, sheet.width * sheet.height * 3),
            atomic_path(path) as temporary,
        ):
            sheet.save(temporary)

    ranks.on_first_rank(write)


def save(run: Run) -> None:
    """Write a checkpoint of where the run stands."""
    tensors = gather(run.weights, run.averages, run.optimiser)
    about = made_with(run.method, run.plan)
    folder, keep = run.out / "checkpoints", run.plan.keep_checkpoints
    ranks.on_first_rank(lambda: save_checkpoint(folder, tensors, vars(run.state), about, keep))


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag that is read between steps, so that a step is whole.

    Signals reach the main thread alone: in any other, nothing is ever asked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
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
