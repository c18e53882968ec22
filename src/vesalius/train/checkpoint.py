"""Checkpoints as safetensors and JSON, each complete before an older one goes."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vesalius.io.atomic import atomic_path, remove


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    average: nn.Module | None,
    optimiser: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Write `folder`/<seen images>, then delete all but the newest `keep`.

    `state` must hold `seen_images`; it is stored as JSON beside the tensors.
    """
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for name, parameter in module.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{name}.{key}"] = torch.as_tensor(value)
    final = folder / f"{state['seen_images']:010d}"
    with atomic_path(final) as temporary:
        temporary.mkdir()
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary / "state.safetensors")
        (temporary / "state.json").write_text(json.dumps(state, indent=1))
    for old in sorted(folder.glob("[0-9]*"))[:-keep]:
        remove(old)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most images seen, or None."""
    return max(folder.glob("[0-9]*"), default=None)


def load_checkpoint(
    path: Path, module: nn.Module, average: nn.Module | None, optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore what `save_checkpoint` stored, in place, and return its `state`."""
    tensors = load_file(path / "state.safetensors")

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    module.load_state_dict(part("model."))
    if average is not None:
        average.load_state_dict(part("average."))
    for name, parameter in module.named_parameters():
        saved = part(f"optimiser.{name}.")
        if saved:
            optimiser.state[parameter] = saved
    return json.loads((path / "state.json").read_text())
