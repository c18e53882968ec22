"""One door to every method: a recipe and a pairs table in, a generator or an adapter out."""

import gc
import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vesalius._version import __version__
from vesalius.config import (
    FineTuneRecipe,
    FullRecipe,
    LoraRecipe,
    Recipe,
    TextualInversionRecipe,
)
from vesalius.core.atomic import atomic_path, writable_new_folder
from vesalius.core.terminal import warn
from vesalius.core.trained_on import TrainedOn
from vesalius.errors import VesaliusError
from vesalius.models.generator import Generator, load_generator, load_network
from vesalius.models.noise_process import is_flow, training_process
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.train.distributed import join, on_first_rank
from vesalius.train.loop import train
from vesalius.train.material import (
    Joined,
    Material,
    Sampler,
    as_mapping,
    cache,
    open_pairs,
    sample_with,
    save_generator,
    settings_of,
    training_flops,
    write_recipe,
    write_training_rows,
)
from vesalius.train.method import choose_rows
from vesalius.train.methods.finetune import FullMethod, trained_scheduler
from vesalius.train.methods.scratch import train_from_scratch
from vesalius.train.prepare import settle


def train_recipe(
    recipe: Any,
    pairs: Path | str,
    out: Path | str,
    model: str | None = None,
    device: str = "cpu",
    resume: bool = False,
    sampler: Sampler | None = None,
) -> Path:
    """Train what `recipe` says on a pairs table; return the folder of the result.

    That is `out`/generator for `scratch` and `full`, `out`/text_encoder for `contrastive`,
    `out`/adapter for `lora` and `textual-inversion`, or `out` where there is one adapter a label,
    each in `out`/LABEL/adapter. `model` replaces the base model of the recipe (of a recipe from
    scratch, the model whose autoencoder is taken). `sampler` draws the samples that a recipe may
    ask for. An interrupted call is repeated with `resume`.

    Raises VesaliusError for whatever does not go together, and when memory runs out.
    """
    recipe = with_model(recipe, model)
    try:
        if recipe.method == "contrastive":
            from vesalius.train.methods.contrastive import adapt_text_encoder

            return adapt_text_encoder(recipe, pairs, Path(out), device, resume)
        if recipe.method == "scratch":
            return train_from_scratch(
                recipe, pairs, out, device=device, resume=resume, sampler=sampler
            )
        return fine_tune(recipe, pairs, out, device, resume, sampler)
    except torch.OutOfMemoryError as error:
        raise VesaliusError(
            f"out of memory on {device}: lower optimisation.micro (the images of one forward pass; "
            "the batch stays as it is), or set optimisation.gradient_checkpointing=true"
        ) from error


def with_model(recipe: Any, model: str | None) -> Any:
    """The recipe with another base model. Raises VesaliusError where it has none."""
    if model is None:
        return recipe
    if isinstance(recipe, FineTuneRecipe):
        return recipe.model_copy(update={"model": model})
    if isinstance(recipe, Recipe) and isinstance(recipe.autoencoder, str):
        return recipe.model_copy(update={"autoencoder": model})
    raise VesaliusError(f"recipe {recipe.name} starts from no model: leave --model out")


def fine_tune(
    recipe: FineTuneRecipe,
    pairs_path: Path | str,
    out: Path | str,
    device: str,
    resume: bool,
    sampler: Sampler | None,
) -> Path:
    """Train from a base model, once or once a label."""
    out, device = writable_new_folder(out, overwrite=True), join(device)
    pairs = Joined(open_pairs(pairs_path), read_pairs(recipe.prior.pairs) if recipe.prior else None)
    settled = settle(recipe.optimisation, out, device)
    recipe = recipe.model_copy(update={"optimisation": settled})
    on_first_rank(partial(write_recipe, recipe, out))
    if not isinstance(recipe, (LoraRecipe, TextualInversionRecipe)) or recipe.per == "set":
        return _train_one(recipe, pairs, out, out / "latents", device, resume, sampler)
    for label in labels_of(pairs, recipe.label):
        changes: dict[str, Any] = {"label": label}
        if isinstance(recipe, TextualInversionRecipe):
            token = {"token": token_of(pairs, label)}
            changes["embedding"] = recipe.embedding.model_copy(update=token)
        one = recipe.model_copy(update=changes)
        _train_one(one, pairs, out / slug(label), out / "latents", device, resume, sampler)
        gc.collect()  # the last label's networks, before the next ones are loaded
    return out


def labels_of(pairs: Joined, only: str | None) -> list[str]:
    """The labels that have training rows of their own. Raises VesaliusError where two are alike."""
    labels, added = pairs.column("label"), set(pairs.added())
    found = sorted({labels[row] or "" for row in pairs.rows("train") if row not in added} - {""})
    if only is not None:
        found = [only]
    if not found:
        raise VesaliusError("per: label needs labels, and the pairs have none: choose per: set")
    folders = [slug(label) for label in found]
    if twice := {name for name in folders if folders.count(name) > 1}:
        raise VesaliusError(
            f"several labels would be trained into the folder {sorted(twice)[0]}: rename one"
        )
    return found


def token_of(pairs: Pairs, label: str) -> str:
    """The new word for a label: its images' caption where that is one, such as <pneumonia>."""
    labels, captions = pairs.column("label"), pairs.column("caption")
    said = {captions[row] for row in pairs.rows("train") if labels[row] == label}
    word = said.pop() if len(said) == 1 else ""
    return word if re.fullmatch(r"<[^<>\s]+>", word) else f"<{slug(label)}>"


def slug(label: str) -> str:
    """A label as a folder's or a token's name."""
    return re.sub(r"[^\w.-]+", "-", label.strip().lower()).strip("-.") or "unnamed"


def _train_one(
    recipe: FineTuneRecipe,
    pairs: Joined,
    out: Path,
    latents_folder: Path,
    device: str,
    resume: bool,
    sampler: Sampler | None,
) -> Path:
    plan, prior = recipe.optimisation, recipe.prior
    rows = choose_rows(
        pairs,
        plan,
        label=getattr(recipe, "label", None),
        prior=pairs.added(),
        prior_share=prior.share if prior else 0.0,
        prior_weight=prior.weight if prior else 1.0,
    )
    if rows.held_out == rows.train[: len(rows.held_out)]:
        warn("no row is held out: the validation loss is that of training rows, and says little")
    # In float32, whatever the files hold: rounded weights cannot take small steps.
    base = load_generator(recipe.model, device, "float32")
    if recipe.size % base.size_multiple:
        raise VesaliusError(f"size {recipe.size} is not a multiple of {base.size_multiple} pixels")
    base.scheduler = _scheduler(base, recipe)
    encoding = trains_text(recipe)
    process = training_process(base.scheduler, recipe.objective, device)
    chunks = int(base.settings.get("caption_chunks", 1))
    if encoding and chunks > 1:
        raise VesaliusError(f"{base.name} reads captions in chunks: its text encoder stays frozen")
    latents = cache(
        Joined(pairs.first, pairs.second, captions=not encoding),
        base.vae,
        base.tokenizer,
        base.text_encoder,
        recipe.size,
        latents_folder,
        recipe.views,
        chunks,
    )
    latents = replace(latents, scaling_factor=float(base.vae.config.scaling_factor))
    sampling = sampler if plan.sample_images else None
    if sampling is None:  # room for what trains
        base.vae.to("cpu")
        base.text_encoder.to("cpu")
    captions = [[caption or ""] for caption in pairs.column("caption")]
    material = Material(base, latents, rows, captions, process, device)
    about = _about(recipe, base, pairs, rows.train)
    flops = training_flops(base.unet, latents, frozen=not isinstance(recipe, FullRecipe))
    method = _method(recipe, material, about, set(range(pairs.own)))
    method.settings = settings_of(recipe, model_hash=base.model_hash)
    method.flops_per_image = flops  # of the U-Net: a text encoder adds a few percent
    prompts = recipe.prompts
    if isinstance(recipe, TextualInversionRecipe):
        prompts = prompts or [recipe.embedding.token]
    sample_with(method, sampling, base, prompts, pairs, rows)
    best = train(method, plan, out / recipe.method, resume)
    bases = [recipe.model] if isinstance(recipe, FullRecipe) else []  # an adapter is apart from it
    on_first_rank(partial(write_training_rows, pairs, rows.train, out, bases))
    if isinstance(recipe, FullRecipe):
        on_first_rank(partial(_save_generator, recipe, base, best, out / "generator"))
        return out / "generator"
    on_first_rank(partial(_save_adapter, best, about, out / "adapter"))
    return out / "adapter"


def trains_text(recipe: FineTuneRecipe) -> bool:
    """Whether captions must be encoded anew in each step."""
    if isinstance(recipe, (FullRecipe, LoraRecipe)):
        return recipe.train.text_encoder
    return True


def _scheduler(base: Generator, recipe: FineTuneRecipe) -> Any:
    if not isinstance(recipe, FullRecipe):
        return base.scheduler
    if is_flow(base.scheduler) and (recipe.prediction or recipe.zero_terminal_snr):
        raise VesaliusError(
            f"{base.name} predicts a flow: prediction and zero_terminal_snr are for models that "
            "predict noise or v"
        )
    return trained_scheduler(base.scheduler, recipe)


def _method(recipe: Any, material: Material, about: dict[str, Any], own: set[int]) -> Any:
    if isinstance(recipe, FullRecipe):
        return FullMethod(recipe, material)
    if isinstance(recipe, LoraRecipe):
        from vesalius.train.methods.lora import LoraMethod

        return LoraMethod(recipe, material, about)
    from vesalius.train.methods.textual_inversion import TextualInversionMethod

    return TextualInversionMethod(recipe, material, own, as_mapping(about))


def _about(recipe: Any, base: Generator, pairs: Joined, rows: list[int]) -> dict[str, Any]:
    """What an adapter says of itself: base, settings, triggers, and a hash of what it has seen."""
    captions = pairs.column("caption")
    about: dict[str, Any] = {
        "kind": recipe.method,
        "recipe": recipe.name,
        "base": base.name,
        "base_hash": base.model_hash,
        "licence": recipe.licence,
        "size": recipe.size,
        "training_rows_sha256": TrainedOn.of_rows("", pairs.column, rows).digest,
        "vesalius": __version__,
        **recipe.sampler.model_dump(exclude_none=True),
    }
    if isinstance(recipe, LoraRecipe):
        about |= {"rank": recipe.lora.rank, "alpha": recipe.lora.alpha}
        about["captions"] = sorted({captions[row] for row in rows if row < pairs.own})[:20]
    if isinstance(recipe, TextualInversionRecipe):
        about |= {"token": recipe.embedding.token, "vectors": recipe.embedding.vectors}
    return about


def _save_generator(recipe: FullRecipe, base: Generator, best: Path, folder: Path) -> None:
    """The base with the best weights in place of those that were trained."""
    for part in sorted(path.name for path in best.iterdir()):
        setattr(base, part, load_network(type(getattr(base, part)), best / part))
    settings = base.settings | recipe.sampler.model_dump(exclude_none=True)
    if recipe.licence != "as the base model":
        settings["licence"] = recipe.licence
    if recipe.size != base.native_size[0]:
        settings["size"] = recipe.size
    base.settings = settings
    save_generator(base, folder)


def _save_adapter(best: Path, about: dict[str, Any], folder: Path) -> None:
    with atomic_path(folder) as temporary:
        shutil.copytree(best, temporary)
        (temporary / "adapter.json").write_text(json.dumps(about, indent=2) + "\n")
