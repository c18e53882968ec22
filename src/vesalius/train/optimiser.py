"""The optimiser over a method's parameters, its learning rate, and the images of a forward pass."""

import math
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.train.adamw import AdamW
from vesalius.train.method import Method
from vesalius.train.muon import Muon, hidden_matrices


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


def check_optimiser(plan: Optimisation, edges: tuple[str, ...]) -> None:
    """Raise VesaliusError for Muon with a method that has no `edges`, or whose weights are parted."""
    if plan.optimiser == "muon" and not edges:
        raise VesaliusError(
            "optimisation.optimiser: muon trains the denoiser of the methods scratch and full, "
            "on whole weights: take adamw, or ddp for fsdp"
        )


def build_optimiser(
    method: Method, weights: dict[str, nn.Parameter], plan: Optimisation
) -> torch.optim.AdamW:
    """The plan's optimiser over the method's groups; with Muon, a group has the hidden matrices.

    `lr_scale` of a group multiplies its rate.

    Raises VesaliusError for Muon with a method or weights that it cannot train.
    """
    groups: list[dict[str, Any]] = [
        {"lr_scale": 1.0} | group for group in method.parameter_groups()
    ]
    grouped = {id(weight) for group in groups for weight in group["params"]}
    if left := [name for name, weight in weights.items() if id(weight) not in grouped]:
        raise ValueError(f"{method.name}: {left[0]} is trained and in no parameter group")
    kind: Any = AdamW
    whole = not any(isinstance(weight, DTensor) for weight in weights.values())
    if plan.optimiser == "muon":
        check_optimiser(plan, method.edges if whole else ())
        matrices = hidden_matrices(weights, method.edges)
        hidden = {id(weight) for weight in matrices}
        rest = [weight for weight in weights.values() if id(weight) not in hidden]
        groups = [
            {"params": rest, "lr_scale": 1.0},
            {"params": matrices, "lr_scale": plan.muon_lr / plan.lr, "muon": True},
        ]
        kind = partial(Muon, dtype=getattr(torch, plan.precision))
    fused = all(
        weight.device.type == "cuda" or (weight.device.type == "cpu" and whole)
        for weight in weights.values()
    )
    return kind(
        groups,
        lr=plan.lr,
        betas=plan.betas,
        weight_decay=plan.weight_decay,
        **({"fused": True} if fused else {"foreach": True}),
    )
