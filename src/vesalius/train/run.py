"""One door to every method: a recipe and a pairs table in, a generator or an adapter out."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from vesalius.config import METHODS, FineTuneRecipe, Recipe
from vesalius.core.atomic import locked_folder
from vesalius.core.paths import no_url
from vesalius.core.waiting import no_collecting
from vesalius.errors import VesaliusError
from vesalius.train.estimate import Estimate
from vesalius.train.method import Kind
from vesalius.train.session import Say, Session, Trained, silent


def train_recipe(
    recipe: Any,
    pairs: Path | str,
    out: Path | str,
    model: str | None = None,
    session: Session | None = None,
) -> Trained:
    """Train what `recipe` says on a pairs table; everything is written into the folder `out`.

    The result is `out`/generator of the methods scratch and full, `out`/text_encoder of
    contrastive, `out`/adapter of lora and textual-inversion, or `out`/LABEL/adapter of each label.
    `model` replaces the base model of the recipe (of a recipe from scratch, the model whose
    autoencoder is taken). An interrupted call is repeated with `resume` in its session.

    Raises VesaliusError for whatever does not go together, and when memory runs out.
    """
    recipe, session = with_model(recipe, model), session or Session()
    kind: Kind = METHODS.load(recipe.method)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    held = locked_folder(no_url(out).absolute()) if first else nullcontext()
    try:
        with held:
            return kind.train(recipe, Path(pairs), Path(out), session)
    except torch.OutOfMemoryError as error:
        raise VesaliusError(
            f"out of memory on {session.device}: lower optimisation.micro (the images of one "
            "forward pass; the batch stays as it is), or set "
            "optimisation.gradient_checkpointing=true"
        ) from error
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(str(interrupt) or _interrupted(Path(out))) from interrupt


def _interrupted(out: Path) -> str:
    """What a run leaves that was stopped outside of its loop, which speaks for itself."""
    wanted = {
        "latents": "**/latents/**/*.safetensors",
        "features": "features/**/*.safetensors",
        "checkpoints": "**/checkpoints/*",
    }
    kept = [name for name, pattern in wanted.items() if any(out.glob(pattern))]
    if not kept:
        return "interrupted: nothing was written that could be used again"
    return f"interrupted: {' and '.join(kept)} are kept in {out}: continue with --resume"


def estimate(
    recipe: Any,
    pairs: Path | str,
    model: str | None = None,
    device: str = "cpu",
    on_message: Say = silent,
) -> Estimate:
    """What `train_recipe` would do; nothing is downloaded, and nothing is left written.

    Some images are encoded and a few steps taken, to see how long all will take: `on_message` gets
    what is being timed.
    """
    recipe = with_model(recipe, model)
    kind: Kind = METHODS.load(recipe.method)
    with no_collecting():
        session = Session(device, on_message=on_message)
        return kind.estimate(recipe, Path(pairs), session)


def with_model(recipe: Any, model: str | None) -> Any:
    """The recipe with another base model. Raises VesaliusError where it has none."""
    if model is None:
        return recipe
    if isinstance(recipe, FineTuneRecipe):
        return recipe.model_copy(update={"model": model})
    if isinstance(recipe, Recipe) and isinstance(recipe.autoencoder, str):
        return recipe.model_copy(update={"autoencoder": model})
    raise VesaliusError(f"recipe {recipe.name} starts from no model: leave --model out")
