"""How networks run: evaluating, uncompiled, with activations computed again, in fast arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vesalius.core.memory import keep_freed_memory

# The names by which networks are asked to compute activations again.
CHECKPOINTING = (
    "enable_gradient_checkpointing",  # diffusers
    "activation_checkpointing_enable",  # transformers
    "gradient_checkpointing_enable",  # transformers before that
)


def parts_of(module: nn.Module) -> list[nn.Module]:
    """The networks that a method calls: the members of a ModuleDict, or the module itself."""
    return list(module.values()) if isinstance(module, nn.ModuleDict) else [module]


def use_fast_arithmetic(device: torch.device) -> None:
    """Let a GPU run float32 products as TF32 and choose its convolutions by trial.

    A CPU keeps the memory of one step for the next.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    elif device.type == "cpu":
        keep_freed_memory()


def mixed_precision(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """Weights stay as they are, products are rounded to `dtype`; float32 changes nothing."""
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def checkpoint_gradients(parts: list[nn.Module]) -> None:
    """Compute activations again in the backward pass where a network can: slower, much smaller.

    Those of transformers do so in training mode alone. A text encoder that is fine-tuned beside its
    denoiser stays in evaluation mode, without dropout, and keeps its activations: they are few.
    """
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
def uncompiled(compiled: bool) -> Iterator[None]:
    """Run networks as they are for a while: what is done once is not worth compiling for.

    Validation and samples come in shapes of their own, and each would take a minute, and one of the
    few places that compiled code has for a network's shapes.
    """
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
