"""What two parts of one run must agree on: the settings that stand in its checkpoints."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from vesalius.config import Optimisation, Part
from vesalius.images.image_set import ImageSet
from vesalius.models.device import pick_precision, precision_reason
from vesalius.train.checkpoint import CONTENT, newest_checkpoint
from vesalius.train.distributed import any_rank
from vesalius.train.method import Method
from vesalius.train.session import Say, silent

# What may change between two parts: how long a run is, how often it looks, how it computes.
FREE = {
    *("seen_images", "decay_images", "micro", "validate_images", "checkpoint_images"),
    *("keep_checkpoints", "sample_images", "compile", "gradient_checkpointing", "loggers"),
}
# Fields that came later, with what was done before: left out, so that older runs can be resumed.
LATER = {"optimiser": "adamw", "muon_lr": 0.02}


def settle(plan: Optimisation, out: Path, device: str, on_message: Say = silent) -> Optimisation:
    """The plan of the run in `out` with its precision resolved: what it began with, or the faster.

    `out` holds the run's checkpoints, or the runs of several labels, which all take the same. Every
    process must call it, before anything reads the precision.
    """
    if plan.precision != "auto":
        return plan
    for folder in sorted(out.glob("**/checkpoints")):
        if newest := newest_checkpoint(folder):
            begun = newest.made_with.get("optimisation.precision")
            on_message(f"precision: {begun}, as this run has begun")
            return plan.model_copy(update={"precision": begun})
    slow = pick_precision(torch.device(device)) == "float32"
    # One for all processes, should they be on unlike devices.
    precision = "float32" if any_rank(slow) else "bfloat16"
    on_message(f"precision: {precision}, {precision_reason(torch.device(device))}")
    return plan.model_copy(update={"precision": precision})


def made_with(method: Method, plan: Optimisation) -> dict[str, Any]:
    """The method and its settings, the rows and all of the plan but FREE."""
    fixed = {
        f"optimisation.{name}": value
        for name, value in plan.model_dump(mode="json").items()
        if (name not in FREE or (name == "seen_images" and plan.schedule == "cosine"))
        and (name not in LATER or value != LATER[name])
    }
    rows = hashlib.sha256(method.row_weights.double().cpu().numpy().tobytes()).hexdigest()[:16]
    about = {"method": method.name, "training rows": f"{len(method.row_weights)} ({rows})"}
    return about | fixed | dict(method.settings)


def images_of(pairs: ImageSet, rows: Iterable[int]) -> dict[str, str]:
    """A setting of a method: the hash of what its `rows` of a table hold, in their order.

    Else a run could go on with another table of as many rows, and its weights would have learned
    from images that its list of training images does not name.
    """
    columns = [pairs.column(name) for name in ("sha1", "caption")]
    told = json.dumps([[column[row] for column in columns] for row in rows])
    return {CONTENT: hashlib.sha256(told.encode()).hexdigest()[:16]}


def settings_of(recipe: Part, **more: Any) -> dict[str, Any]:
    """A recipe's part in a method's `settings`; the plan is looked at by `made_with`."""
    fields = recipe.model_dump(
        mode="json", exclude={"licence", "sampler", "prompts", "optimisation"}
    )
    fields.pop("autoencoder", None)  # a stage of its own, with settings of its own
    if "denoiser" in fields:
        fields["denoiser"].pop("optimisation")
        if not fields["denoiser"]["sizes"]:  # as in checkpoints from before there were any
            fields["denoiser"].pop("sizes")
    return fields | more
