"""What a recipe would do, in words: nothing is trained, downloaded or written."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch

from vesalius.config import FineTuneRecipe, LoraRecipe, Optimisation, TextualInversionRecipe
from vesalius.core.quiet import quiet
from vesalius.models.adapters import add_lora
from vesalius.models.cost import count_denoiser
from vesalius.models.device import pick_precision
from vesalius.models.folder import pixels_per_cell, read_json
from vesalius.models.locate import local_folder
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.train.denoiser import build_denoiser
from vesalius.train.material import Joined, open_pairs
from vesalius.train.method import choose_rows
from vesalius.train.methods import scratch
from vesalius.train.run import labels_of, trains_text, with_model

QUICK_MACS = 4e10  # of a step: what a CPU's core does in a few seconds


def plan(
    recipe: Any, pairs_path: Path | str, model: str | None = None, device: str = "cpu"
) -> dict[str, str]:
    """What `train_recipe` would do with these arguments: name of a fact to its words.

    Where a step on `device` takes a moment, a few are timed with random weights, so that the time
    that a run will take can be told.
    """
    recipe = with_model(recipe, model)
    if isinstance(recipe, FineTuneRecipe):
        return _plan_fine_tuning(recipe, pairs_path, device)
    if recipe.method == "contrastive":
        pairs, stage = open_pairs(pairs_path), recipe.optimisation
        rows = len(choose_rows(pairs, stage).train)
        return {
            "pairs": _say_pairs(pairs, rows),
            "trains": f"the text encoder {recipe.text_encoder.source}",
            "length": scratch.say_length(stage, rows),
            "time": "unknown before the first steps: it is mostly that of "
            + ("reading captions" if recipe.image_features else "decoding images"),
        }
    recipe = scratch.with_sample_size(recipe, local_folder)
    lines = scratch.plan(recipe, pairs_path)
    with torch.device("meta"):
        denoiser = build_denoiser(recipe.denoiser)
    stage, tokens = recipe.denoiser.optimisation, recipe.text_encoder.tokens
    side = int(cast(Any, denoiser).config.sample_size)
    begins, parts = 0, []
    for part in recipe.denoiser.sizes:
        parts.append((side * part.size // recipe.size, part.until_images - begins))
        begins = part.until_images
    parts.append((side, stage.seen_images - begins))
    return lines | {"time": "denoiser: " + _say_time(denoiser, tokens, stage, 1, device, parts)}


def _plan_fine_tuning(recipe: FineTuneRecipe, path: Path | str, device: str) -> dict[str, str]:
    stage = recipe.optimisation
    pairs = Joined(open_pairs(path), read_pairs(recipe.prior.pairs) if recipe.prior else None)
    per_label = getattr(recipe, "per", "set") == "label"
    runs = len(labels_of(pairs, getattr(recipe, "label", None))) if per_label else 1
    rows = choose_rows(pairs, stage, label=getattr(recipe, "label", None))
    lines = {
        "pairs": _say_pairs(pairs, len(rows.train)),
        "base": recipe.model,
        "length": scratch.say_length(stage, max(1, len(rows.train) // runs))
        + (f", for each of {runs} labels" if per_label else ""),
    }
    folder = local_folder(recipe.model)
    if folder is None:
        return lines | {"trains": "unknown until the base model is on this machine: hf download"}
    needs = needs_of(recipe, folder)
    symmetric = sum(name == "square" for name in pairs.column("symmetry"))
    images = len(pairs) + symmetric * (recipe.views - 1)
    captions = 0 if trains_text(recipe) else len(set(pairs.column("caption")))
    cache = 2 * (2 * images * needs.latent_values + captions * needs.text_values)
    return lines | {
        "trains": needs.trains,
        "cache": f"{cache / 1e6:,.0f} MB on disk, and in the memory of a GPU where it fits",
        "memory": f"{needs.memory}, uncompiled, without gradient checkpointing",
        "time": needs.time(device, runs),
    }


@dataclass(frozen=True)
class Needs:
    """What a fine-tuning takes of a machine; nothing of the model is loaded but its outline."""

    trains: str  # what, in words
    parameters: int  # that train
    base_parameters: int  # of the denoiser
    memory_bytes: float  # weights, gradients, optimiser state and what a backward pass keeps
    latent_values: int  # of one image
    text_values: int  # of one caption
    time: Callable[[str, int], str]  # by device and number of runs: how long, in words

    @property
    def memory(self) -> str:
        """As in `about 3.2 GB`."""
        return f"about {self.memory_bytes / 1e9:.1f} GB"


def needs_of(recipe: FineTuneRecipe, folder: Path) -> Needs:
    """What `recipe` takes with the base model in `folder`."""
    stage = recipe.optimisation
    unet, encoder, tokens = _outline(folder)
    frozen = sum(p.numel() for p in unet.parameters())
    what, trained = _trained(recipe, unet, encoder)
    width, side = int(unet.config.cross_attention_dim), recipe.size // pixels_per_cell(folder)
    with quiet():
        unet.to(torch.bfloat16)
    _, kept = count_denoiser(unet, (side, side), tokens)
    bytes_each = 16 + 4 * len(stage.ema_half_life_images)  # weight, gradient, two moments, averages
    full = recipe.method == "full"
    memory = (
        trained * bytes_each + (0 if full else 2 * frozen) + (stage.micro or stage.batch) * kept
    )
    return Needs(
        f"{what}, {trained / 1e6:,.2f} M parameters",
        trained,
        frozen,
        memory,
        unet.config.in_channels * side**2,
        tokens * width,
        lambda device, runs: _say_time(
            unet.float(), tokens, stage, runs, device, [(side, stage.seen_images)]
        ),
    )


def _say_pairs(pairs: Pairs, rows: int) -> str:
    captions = len(set(pairs.column("caption")))
    return f"{rows:,} to train on, {len(pairs.rows('val')):,} held out, {captions:,} captions"


def _outline(folder: Path) -> tuple[Any, Any, int]:
    """U-Net and text encoder on the meta device, and the tokens of a prompt."""
    from transformers import AutoConfig, AutoModel

    from vesalius.models.uvit import UViT

    config = read_json(folder / "unet" / "config.json")
    kind = UViT if config["_class_name"] == "UViT" else getattr(diffusers, config["_class_name"])
    with torch.device("meta"):
        unet = kind.from_config(config)
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder / "text_encoder"))
    tokens = read_json(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length", 77)
    return unet, encoder, int(tokens)


def _trained(recipe: FineTuneRecipe, unet: Any, encoder: Any) -> tuple[str, int]:
    """What is trained, in words, and how many parameters that is; LoRA's layers are put in."""
    if isinstance(recipe, TextualInversionRecipe):
        unet.requires_grad_(False)
        count = recipe.embedding.vectors
        return f"{count} vectors", count * encoder.get_input_embeddings().weight.shape[1]
    text = encoder if trains_text(recipe) else None
    parts = "U-Net and text encoder" if text is not None else "U-Net"
    if isinstance(recipe, LoraRecipe):
        settings = recipe.lora
        weights = add_lora(unet, text, settings.rank, settings.alpha, settings.targets)
        return f"LoRA of rank {settings.rank} on {parts}", sum(p.numel() for p in weights)
    networks = [unet] if text is None else [unet, text]
    return parts, sum(p.numel() for network in networks for p in network.parameters())


def _say_time(
    unet: Any,
    tokens: int,
    stage: Optimisation,
    runs: int,
    device: str,
    parts: Sequence[tuple[int, int]],
) -> str:
    """How long so many runs take, by a few timed steps of `unet`, which is on the meta device.

    `parts` of a run are the latents' side and how many images are seen.
    """
    images = stage.micro or stage.batch
    width = int(unet.config.cross_attention_dim)

    def inputs(place: str, side: int) -> tuple[torch.Tensor, ...]:
        shape = (images, unet.config.in_channels, side, side)
        times = torch.full((images,), 500.0, device=place)
        text = torch.zeros(images, tokens, width, device=place)
        return torch.zeros(shape, device=place), times, text

    largest = max(side for side, _ in parts)
    macs = 3 * images * count_denoiser(unet, (largest, largest), tokens)[0].products
    kind = torch.device(device).type
    if kind == "cpu" and macs > QUICK_MACS:
        return "unknown before the first steps: one takes too long here to be timed first"
    try:
        unet = unet.to_empty(device=device)
        seconds = sum(
            _seconds(unet, inputs(device, side), stage, device) / images * seen
            for side, seen in parts
        )
    except torch.OutOfMemoryError:
        return f"none: {images} images at once do not fit the memory of {device}: set micro"
    hours = seconds * runs / 3600
    told = f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} minutes"
    return f"about {told} on {device}, uncompiled, without encoding and validation"


def _seconds(
    unet: Any, inputs: tuple[torch.Tensor, ...], stage: Optimisation, device: str
) -> float:
    """Seconds of one forward and backward pass, the best of two after a first one."""
    with torch.no_grad():
        for weight in unet.parameters():
            weight.normal_(std=0.02)
    if not any(weight.requires_grad for weight in unet.parameters()):
        inputs[2].requires_grad_()  # textual inversion: the gradient goes through to the text
    place, name = torch.device(device), stage.precision
    dtype = getattr(torch, pick_precision(place) if name == "auto" else name)
    best, kind = float("inf"), place.type
    for step in range(3):
        started = time.monotonic()
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            output = unet(inputs[0], inputs[1], inputs[2], return_dict=False)[0]
        output.float().square().mean().backward()
        if kind == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.monotonic() - started) if step else best
    return best
