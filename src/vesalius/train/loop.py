"""The training loop.

Every random draw is a function of (seed, images seen, block of the batch), so a run that was
stopped and resumed takes the same steps as one that was not, and any number of processes takes
the steps that one would. Inside a step nothing waits for the device.
"""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vesalius.config import Optimisation
from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.images.sheets import contact_sheet
from vesalius.train import distributed as ranks
from vesalius.train.average import Averages, start_averages, swapped, update_averages
from vesalius.train.checkpoint import (
    check_checkpoint,
    disk_told,
    gather,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from vesalius.train.log import Clock, Log, open_log, progress_bar, utilisation
from vesalius.train.method import Method, generator
from vesalius.train.prepare import (
    build_optimiser,
    checkpoint_gradients,
    evaluating,
    learning_rate,
    made_with,
    micro_batch,
    parts_of,
    uncompiled,
    use_fast_arithmetic,
)

LOG_EVERY_STEPS = 20


@dataclass
class RunState:
    """Where a run stands; all that a checkpoint needs besides tensors."""

    seen_images: int = 0
    best_loss: float | None = None
    best_seen_images: int = 0
    seconds: float = 0.0


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
    resume: bool = False,
    distributed: Literal["ddp", "fsdp"] = "ddp",
) -> Path:
    """Train `method` as `plan` says and return the folder of its best weights, `out`/best.

    `out` receives log.jsonl, checkpoints/, best/ (the averaged weights with the lowest validation
    loss, or the last ones of a method that asks for those) and, where the method draws samples, samples/. With `resume` it goes on from the newest
    whole checkpoint there. Under torchrun the processes share each batch; `distributed` says
    whether each holds the whole model or a part of it.

    Raises KeyboardInterrupt after saving when interrupted; VesaliusError when the loss is not
    finite, the disk is full or the checkpoints there are of another run.
    """
    run = open_run(method, plan, out, resume, distributed)
    state, clock = run.state, Clock(run.state.seen_images, run.state.seconds)
    with closing(run.log), progress_bar() as bar, stop_signals() as asked:
        task = bar.add_task(
            method.name, total=plan.seen_images, completed=state.seen_images, told=""
        )
        while state.seen_images < plan.seen_images:
            previous = state.seen_images
            run.log.pending.append(take_step(run))
            state.seen_images += plan.batch
            if not clock.first_step_seconds:  # compilation is in it: told apart, in no rate
                clock.after_first_step(state.seen_images)
                run.log.write(previous, first_step_seconds=clock.first_step_seconds)
            state.seconds = clock.seconds()

            def passed(interval: int, previous: int = previous) -> bool:
                return interval > 0 and state.seen_images // interval > previous // interval

            last, stopping = state.seen_images >= plan.seen_images, ranks.any_rank(asked())
            validating = passed(plan.validate_images) or last
            sampling = passed(plan.sample_images) and hasattr(method, "sample")
            saving = passed(plan.checkpoint_images) or last or stopping
            pausing = validating or sampling or saving
            # Before a checkpoint too: weights that are not finite must never replace good ones.
            if passed(LOG_EVERY_STEPS * plan.batch) or pausing:
                told = tell(run, learning_rate(previous, plan), clock)
                bar.update(task, completed=state.seen_images, told=told)
            if validating:
                validate(run)
            if sampling:
                draw_samples(run)
            if saving:
                save(run)
            if stopping:
                raise KeyboardInterrupt(
                    f"interrupted after {state.seen_images:,} images: saved, go on with --resume"
                )
            if pausing:
                clock.go_on(state.seen_images)
    return out / "best"


def open_run(
    method: Method, plan: Optimisation, out: Path, resume: bool, distributed: str = "ddp"
) -> Run:
    """Get a method ready for its next step: from the start, or where its newest checkpoint is."""
    device = next(method.module.parameters()).device
    ranks.join(device.type)
    micro = micro_batch(plan, ranks.world_size())
    use_fast_arithmetic(device)
    out.mkdir(parents=True, exist_ok=True)
    newest = newest_checkpoint(out / "checkpoints")
    if newest and not resume:
        raise VesaliusError(f"{out} holds a run already: pass --resume or choose another --out")
    parts = parts_of(method.module)
    if plan.gradient_checkpointing:
        checkpoint_gradients(parts)
    whole = lambda: method.module  # noqa: E731
    if distributed == "fsdp" and ranks.world_size() > 1:
        whole = ranks.shard(method.module, parts)
    if plan.compile:
        for part in parts:
            # In place: names of weights, and so checkpoints, stay the same. Code for shapes that
            # may be any is slower than that for each of a few.
            part.compile(dynamic=False if getattr(method, "few_shapes", False) else None)
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
        log.rewind(run.state.seen_images)
    return run


def take_step(run: Run) -> dict[str, Tensor]:
    """One step on a global batch, of which this process takes its blocks; nothing waits.

    Returns the means of its losses and the norm of the whole gradient, on the device.
    """
    method, plan, seen = run.method, run.plan, run.state.seen_images
    if hook := getattr(method, "before_step", None):
        hook(seen)
    draw = generator(plan.seed, method.name, seen)
    rows = torch.multinomial(method.row_weights, plan.batch, replacement=True, generator=draw)
    if next(iter(run.weights.values())).device.type == "cuda":
        rows = rows.pin_memory()  # a method's copy to the device need not wait then
    blocks = rows.split(run.micro)
    each = len(blocks) // ranks.world_size()
    means: dict[str, Tensor] = {}
    for block in range(ranks.rank() * each, (ranks.rank() + 1) * each):
        draw = generator(plan.seed, method.name, seen, block)
        torch.manual_seed(draw.initial_seed())  # dropout inside a network draws from this one
        losses = method.loss(blocks[block], draw)
        (losses["loss"] / len(blocks)).backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach() / each
    ranks.sum_gradients(run.weights.values())
    norm = nn.utils.clip_grad_norm_(run.weights.values(), plan.clip_norm)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(seen, plan) * group.get("lr_scale", 1.0)
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    if hook := getattr(method, "after_step", None):
        hook()
    update_averages(run.averages, run.weights, seen, plan.batch)
    return means | {"norm": norm.full_tensor() if isinstance(norm, DTensor) else norm}


def tell(run: Run, lr: float, clock: Clock) -> str:
    """Log the means since the last time; return what the bar says of them.

    Raises VesaliusError where a loss or a gradient was not finite.
    """
    means = run.log.means()
    img_per_sec = clock.rate(run.state.seen_images)  # only now has the device done those steps
    refuse_infinite(run, means)
    device = next(iter(run.weights.values())).device
    flops = getattr(run.method, "flops_per_image", None)
    share = utilisation(flops, img_per_sec, device, run.plan.precision)
    figures = {"img_per_sec": round(img_per_sec, 2), "lr": lr} | means
    if share is not None:
        figures["mfu"] = round(share, 4)
    run.log.write(run.state.seen_images, seconds=round(run.state.seconds, 1), **figures)
    text = f"loss {means['loss']:.4f}  {img_per_sec:.1f} img/s"
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
    with swapped(run.weights, run.average), evaluating(method.module), uncompiled(run.plan):
        figures = method.validate(method.module)
        # Processes must agree to the bit, or some would wait for others to save.
        agreed = ranks.mean_over_ranks(torch.tensor([*figures.values()], dtype=torch.float64))
        figures = dict(zip(figures, agreed.tolist(), strict=True))
        refuse_infinite(run, {"validation loss": figures["loss"]})
        run.log.write(state.seen_images, validation=figures)
        better = state.best_loss is None or figures["loss"] < state.best_loss
        if not better and not getattr(method, "keeps_last", False):
            return
        state.best_loss, state.best_seen_images = figures["loss"], state.seen_images
        module = run.whole()

        def write() -> None:
            needed = sum(weight.nbytes for weight in module.parameters())
            with disk_told(run.out / "best", needed), atomic_path(run.out / "best") as temporary:
                method.save(module, temporary)

        ranks.on_first_rank(write)


def draw_samples(run: Run) -> None:
    """Write a sheet of the method's own samples, drawn with the averaged weights."""
    looking = evaluating(run.method.module), uncompiled(run.plan)
    with swapped(run.weights, run.average), looking[0], looking[1], torch.no_grad():
        images = run.method.sample(run.method.module)  # pyright: ignore[reportAttributeAccessIssue]

    def write() -> None:
        title = f"{run.method.name}, {run.state.seen_images:,} images seen"
        columns = math.ceil(math.sqrt(len(images)))
        sheet = contact_sheet(images, [""] * len(images), columns, title=title)
        path = run.out / "samples" / f"{run.state.seen_images:010d}.png"
        with disk_told(path, sheet.width * sheet.height * 3), atomic_path(path) as temporary:
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
