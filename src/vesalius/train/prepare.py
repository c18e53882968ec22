"""What a method's module and plan become before the first step: optimiser, schedule, settings."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_precision
from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.distributed import any_rank
from vesalius.train.method import Method
from vesalius.train.muon import Muon, hidden_matrices

# What may change between two parts of one run: how long it is, how often it looks, how it computes.
FREE = {
    "seen_images",
    "decay_images",
    "micro",
    "validate_images",
    "checkpoint_images",
    "keep_checkpoints",
    "sample_images",
    "compile",
    "gradient_checkpointing",
    "loggers",
}
# Fields that came later, with what was done before: left out, so that older runs can be resumed.
LATER = {"optimiser": "adamw", "muon_lr": 0.02}
# How networks are told to compute activations again.
CHECKPOINTING = (
    "enable_gradient_checkpointing",  # diffusers
    "activation_checkpointing_enable",  # transformers
    "gradient_checkpointing_enable",  # transformers before that
)


def settle(plan: Optimisation, out: Path, device: str) -> Optimisation:
    """The plan of the run in `out` with its precision resolved: what it began with, or the faster.

    `out` holds the run's checkpoints, or the runs of several labels, which all take the same. Every
    process must call it, before anything reads the precision.
    """
    if plan.precision != "auto":
        return plan
    for folder in sorted(out.glob("**/checkpoints")):
        if newest := newest_checkpoint(folder):
            begun = newest.made_with.get("optimisation.precision")
            return plan.model_copy(update={"precision": begun})
    slow = pick_precision(torch.device(device)) == "float32"
    # One for all processes, should they be on unlike devices.
    return plan.model_copy(update={"precision": "float32" if any_rank(slow) else "bfloat16"})


def learning_rate(seen: int, plan: Optimisation) -> float:
    """The learning rate of the step that follows `seen` images: warm-up times the schedule.

    constant: 1; cosine: (1 + cos(pi s)) / 2 with s from 0 after the warm-up to 1 at the end; wsd:
    1, then linearly to 0 over the last `decay_images`. That plateau before a short decay lets a
    run be lengthened or cut short without a new schedule.
    """
    warm = min(1.0, (seen + plan.batch) / plan.warmup_images) if plan.warmup_images else 1.0
    left = max(0, plan.seen_images - seen)
    cool = 1.0
    if plan.schedule == "cosine":
        done = 1 - left / max(1, plan.seen_images - plan.warmup_images)
        cool = (1 + math.cos(math.pi * max(0.0, done))) / 2
    elif plan.schedule == "wsd" and plan.decay_images:
        cool = min(1.0, left / plan.decay_images)
    return plan.lr * warm * cool


def micro_batch(plan: Optimisation, processes: int) -> int:
    """How many images one forward pass takes.

    Raises VesaliusError where the batch cannot be divided so.
    """
    micro = plan.micro or max(1, plan.batch // processes)
    if plan.batch % (micro * processes):
        raise VesaliusError(
            f"optimisation.batch {plan.batch} is not a multiple of {processes} processes times "
            f"micro {micro}: choose a batch that is"
        )
    return micro


def parts_of(module: nn.Module) -> list[nn.Module]:
    """The networks that a method calls: the members of a ModuleDict, or the module itself."""
    return list(module.values()) if isinstance(module, nn.ModuleDict) else [module]


def use_fast_arithmetic(device: torch.device) -> None:
    """Let a GPU run float32 products as TF32 and choose its convolutions by trial."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


def checkpoint_gradients(parts: list[nn.Module]) -> None:
    """Compute activations again in the backward pass where a network can: slower, much smaller."""
    for part in parts:
        turn_on = next((name for name in CHECKPOINTING if hasattr(part, name)), None)
        if turn_on:
            getattr(part, turn_on)()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout for a while; then every part is in the mode that the method left it in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def uncompiled(plan: Optimisation) -> Iterator[None]:
    """Run networks as they are for a while: what is done once is not worth compiling for.

    Validation and samples come in shapes of their own, and each would take a minute, and one of the
    few places that compiled code has for a network's shapes.
    """
    if not plan.compile:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def build_optimiser(
    method: Method, weights: dict[str, nn.Parameter], plan: Optimisation
) -> torch.optim.AdamW:
    """The plan's optimiser over the method's groups, or one of all weights.

    `lr_scale` of a group multiplies its rate. With Muon, a group has the hidden matrices.

    Raises VesaliusError for Muon with a method or weights that it cannot train.
    """
    groups: list[dict[str, Any]] = [{"params": list(weights.values())}]
    if hook := getattr(method, "parameter_groups", None):
        groups = [{"lr_scale": 1.0} | group for group in hook()]
        grouped = {id(weight) for group in groups for weight in group["params"]}
        if left := [name for name, weight in weights.items() if id(weight) not in grouped]:
            raise ValueError(f"{method.name}: {left[0]} is trained and in no parameter group")
    kind: Any = torch.optim.AdamW
    if plan.optimiser == "muon":
        edges = getattr(method, "edges", None)
        if edges is None or any(isinstance(weight, DTensor) for weight in weights.values()):
            raise VesaliusError(
                "optimisation.optimiser: muon trains the denoiser of the methods scratch and full, "
                "on whole weights: take adamw, or ddp for fsdp"
            )
        matrices = hidden_matrices(weights, edges)
        hidden = {id(weight) for weight in matrices}
        rest = [weight for weight in weights.values() if id(weight) not in hidden]
        groups = [
            {"params": rest},
            {"params": matrices, "lr_scale": plan.muon_lr / plan.lr, "muon": True},
        ]
        kind = partial(Muon, dtype=getattr(torch, plan.precision))
    fused = all(weight.device.type == "cuda" for weight in weights.values())
    return kind(
        groups,
        lr=plan.lr,
        betas=plan.betas,
        weight_decay=plan.weight_decay,
        **({"fused": True} if fused else {"foreach": True}),
    )


def made_with(method: Method, plan: Optimisation) -> dict[str, Any]:
    """What two parts of one run must agree on: method, rows and all of the plan but FREE.

    A method's own `settings`, a mapping, are added where it has them.
    """
    fixed = {
        f"optimisation.{name}": value
        for name, value in plan.model_dump(mode="json").items()
        if (name not in FREE or (name == "seen_images" and plan.schedule == "cosine"))
        and (name not in LATER or value != LATER[name])
    }
    rows = hashlib.sha256(method.row_weights.double().cpu().numpy().tobytes()).hexdigest()[:16]
    about = {"method": method.name, "training rows": f"{len(method.row_weights)} ({rows})"}
    return about | fixed | dict(getattr(method, "settings", {}))
