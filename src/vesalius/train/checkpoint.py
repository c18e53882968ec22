"""Checkpoints as safetensors and JSON, each complete and on the disk before an older one goes.

A checkpoint holds what is trained, its averages and the optimiser's state: frozen parts are built
from the recipe. It also says what made it, so that no other recipe resumes it.
"""

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vesalius.core.atomic import atomic_path, clear_write_errors, remove
from vesalius.core.documents import read_json
from vesalius.core.tensors import read_header, read_tensors
from vesalius.errors import VesaliusError
from vesalius.train.average import Averages, Weights
from vesalius.train.distributed import fill, full, rank
from vesalius.train.session import Say, silent

TENSORS, STATE = "state.safetensors", "state.json"
# Settings of methods that older checkpoints do not have.
CONTENT, CONTRASTED = "images and captions", "pairs told from each other"
FROZEN = "noise and frozen networks"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole."""

    path: Path
    state: dict[str, Any]  # where the run stood
    made_with: dict[str, Any]  # what must not change between two parts of one run
    shapes: dict[str, list[int]]  # of every tensor


def gather(
    weights: Weights, averages: Averages, optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """All tensors of a run by name, whole and on the CPU; every process must call it.

    `model.<name>`, `average.<half-life>.<name>` and `optimiser.<name>.<key>`.
    """
    live: dict[str, Tensor] = {f"model.{name}": weight for name, weight in weights.items()}
    for half_life, average in averages.items():
        live |= {f"average.{half_life}.{name}": value for name, value in average.items()}
    for name, weight in weights.items():
        for key, value in optimiser.state.get(weight, {}).items():
            live[f"optimiser.{name}.{key}"] = value
    tensors = {}
    for name, value in live.items():
        whole = full(value)
        if rank() == 0:  # the others only take part in gathering
            tensors[name] = whole
    return tensors


def save_checkpoint(
    folder: Path,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    made_with: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Write `folder`/<seen images>, then delete all but the newest `keep`.

    `state` must hold `seen_images`. Raises VesaliusError for a full disk; what was there stays.
    """
    final = folder / f"{state['seen_images']:010d}"
    needed = sum(value.nbytes for value in tensors.values())
    for left in folder.glob(".[0-9]*"):  # by a kill in the middle of saving
        remove(left)
    with clear_write_errors(final, needed), atomic_path(final) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / TENSORS)
        text = json.dumps({"state": state, "made_with": made_with}, indent=1)
        (temporary / STATE).write_text(text)
        for path in (temporary / TENSORS, temporary / STATE, temporary):
            _flush(path)
    _flush(folder)
    # Later ones are torn, or this run would have gone on from them.
    standing = [path for path in sorted(folder.glob("[0-9]*")) if path.name <= final.name]
    for old in {*folder.glob("[0-9]*")} - {*standing[-keep:]}:
        remove(old)
    return final


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, has reached the disk."""
    with suppress(OSError) if path.is_dir() else nullcontext():  # some disks refuse it for folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def newest_checkpoint(folder: Path, on_warning: Say = silent) -> Checkpoint | None:
    """The whole checkpoint with the most images seen; None where there has been none.

    Torn ones are passed over with a warning. Raises VesaliusError where all are torn.
    """
    paths = sorted(folder.glob("[0-9]*"), reverse=True)
    reason = ""
    for path in paths:
        try:
            return open_checkpoint(path)
        except (OSError, KeyError, TypeError, VesaliusError) as error:
            reason = f"checkpoint {path} is torn ({error})"
            if path != paths[-1] and rank() == 0:
                on_warning(f"{reason}: going on from the one before")
    if paths:
        raise VesaliusError(f"{reason}, and there is no other: train into another --out")
    return None


def open_checkpoint(path: Path) -> Checkpoint:
    """Read all but the tensors, whose lengths are checked against the file's."""
    text, header = read_json(path / STATE), read_header(path / TENSORS)
    shapes = {name: value["shape"] for name, value in header.items() if name != "__metadata__"}
    state, made_with = text["state"], text["made_with"]
    if not isinstance(state, dict) or not isinstance(made_with, dict):
        raise TypeError("it does not say where the run stood")
    return Checkpoint(path, state, made_with, shapes)


def check_checkpoint(
    checkpoint: Checkpoint, weights: Weights, made_with: Mapping[str, Any]
) -> None:
    """Raise VesaliusError unless the checkpoint is of this recipe, this data and these weights."""
    advice = "continue with the recipe and the pairs that made it, or choose another --out"
    now = json.loads(json.dumps(made_with))  # as it reads from a file: tuples are lists
    for name in sorted({*now, *checkpoint.made_with}):
        before, after = checkpoint.made_with.get(name), now.get(name)
        older = before is None and name in (CONTENT, CONTRASTED, FROZEN)
        if before != after and not older:
            raise VesaliusError(
                f"checkpoint {checkpoint.path} was made with {name} {before}, now it is {after}: "
                + advice
            )
    stored = {
        n.removeprefix("model."): s for n, s in checkpoint.shapes.items() if n[:6] == "model."
    }
    here = {name: list(weight.shape) for name, weight in weights.items()}
    for name in sorted({*stored, *here}):
        if stored.get(name) != here.get(name):
            raise VesaliusError(
                f"checkpoint {checkpoint.path} is of another model: {name} is "
                f"{stored.get(name, 'missing')} there, {here.get(name, 'missing')} here: {advice}"
            )


def load_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name."""
    return read_tensors(checkpoint.path / TENSORS)[0]


def load_checkpoint(
    checkpoint: Checkpoint, weights: Weights, averages: Averages, optimiser: torch.optim.Optimizer
) -> None:
    """Restore, in place, what `gather` gave. Raises VesaliusError for what does not fit."""
    tensors = load_tensors(checkpoint)
    try:
        _restore(tensors, weights, averages, optimiser)
    except KeyError as error:
        raise VesaliusError(
            f"checkpoint {checkpoint.path} is not whole: it lacks {error}"
        ) from error


def _restore(
    tensors: dict[str, Tensor],
    weights: Weights,
    averages: Averages,
    optimiser: torch.optim.Optimizer,
) -> None:
    groups = {weight: group for group in optimiser.param_groups for weight in group["params"]}
    for name, weight in weights.items():
        fill(weight, tensors[f"model.{name}"])
        for half_life, average in averages.items():
            fill(average[name], tensors[f"average.{half_life}.{name}"])
        prefix = f"optimiser.{name}."
        for key in [stored for stored in tensors if stored.startswith(prefix)]:
            value = tensors[key]
            if key != f"{prefix}step":
                # laid out in memory as the weight is: fused steps need that
                moment = torch.zeros_like(weight)
                fill(moment, value)
                value = moment
            elif groups[weight].get("fused"):
                value = value.to(weight.device)
            optimiser.state[weight][key.removeprefix(prefix)] = value
