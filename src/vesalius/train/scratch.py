"""A generator from nothing but pairs: autoencoder, cached latents, denoiser, all in one folder."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import yaml
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from vesalius.config import Recipe, SamplerRecipe
from vesalius.data.latents import cached_latents
from vesalius.data.pairs import read_pairs
from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path, writable_new_folder
from vesalius.io.terminal import image_progress
from vesalius.models.generator import Generator
from vesalius.models.text_encoder import load_text_encoder
from vesalius.train.autoencoder import AutoencoderMethod
from vesalius.train.denoiser import DenoiserMethod
from vesalius.train.loop import train


def build_scheduler(recipe: SamplerRecipe) -> Any:
    """The diffusers scheduler that the recipe names by `class`, with its other fields."""
    arguments = dict(recipe.scheduler)
    name = arguments.pop("class", "")
    kind = getattr(diffusers, name, None)
    if kind is None or not name.endswith("Scheduler"):
        raise VesaliusError(f"sampler.scheduler.class {name!r} is not a diffusers scheduler")
    return kind(**arguments)


def plan(recipe: Recipe, pairs_path: Path | str) -> dict[str, str]:
    """What `train_from_scratch` would do, in words, without doing or writing any of it."""
    pairs = read_pairs(pairs_path)
    build_scheduler(recipe.sampler)
    train_rows, held_out = len(pairs.rows("train")), len(pairs.rows("val"))
    with torch.device("meta"):
        denoiser = UNet2DConditionModel(**recipe.denoiser.arguments)
    unet: Any = denoiser.config
    side, weights = int(unet.sample_size), sum(p.numel() for p in denoiser.parameters())
    symmetric = sum(name == "square" for name in pairs.column("symmetry"))
    images = len(pairs) + symmetric * (recipe.denoiser.views - 1)
    captions = len(set(pairs.column("caption")))
    text = captions * recipe.text_encoder.tokens * int(unet.cross_attention_dim)
    cache = 2 * (images * int(unet.in_channels) * side**2 + text)
    stages = {"autoencoder": recipe.autoencoder.optimisation}
    stages["denoiser"] = recipe.denoiser.optimisation
    return {
        "pairs": f"{train_rows:,} to train on, {held_out:,} held out, {captions:,} captions",
        "trains": f"{recipe.autoencoder.kind}, then a denoiser of {weights / 1e6:.1f} M parameters",
        "frozen": recipe.text_encoder.source,
        **{
            name: f"{stage.seen_images:,} images seen in {-(-stage.seen_images // stage.batch):,} "
            f"steps of {stage.batch}, {stage.seen_images / train_rows:.1f} epochs"
            for name, stage in stages.items()
        },
        "cache": f"{cache / 1e6:.0f} MB on disk, and in the memory of a GPU",
        "optimiser": f"{weights * 20 / 1e9:.1f} GB for weights, gradients, moments and average",
    }


def train_from_scratch(
    recipe: Recipe,
    pairs_path: Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    resume: bool = False,
) -> Path:
    """Train every stage of `recipe` on a pairs table; return the folder of the finished generator.

    `out` receives recipe.yaml, autoencoder/, latents/, denoiser/ and generator/ (diffusers layout,
    half precision). A stage whose run is complete is not trained again, so an interrupted call is
    repeated with `resume` until it returns.
    """
    out, pairs = Path(out), read_pairs(pairs_path)
    writable_new_folder(out, overwrite=True)  # a run may be gone on with; a file is in the way
    scheduler = build_scheduler(recipe.sampler)
    tokenizer, text_encoder = load_text_encoder(
        recipe.text_encoder.source, recipe.text_encoder.tokens
    )
    with atomic_path(out / "recipe.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))

    stage = AutoencoderMethod(recipe.autoencoder, pairs, recipe.size, device)
    best = train(stage, recipe.autoencoder.optimisation, out / "autoencoder", resume)
    autoencoder = _load(type(stage.module), best).to(device, memory_format=torch.channels_last)
    with image_progress("encoding images") as progress:
        latents = cached_latents(
            pairs,
            autoencoder.eval(),
            tokenizer,
            text_encoder.to(device),
            recipe.size,
            out / "latents",
            recipe.denoiser.views,
            progress,
            partial(print, file=sys.stderr),
        )
    autoencoder.register_to_config(scaling_factor=latents.scaling_factor)

    method = DenoiserMethod(recipe.denoiser, latents, pairs, device)
    best = train(method, recipe.denoiser.optimisation, out / "denoiser", resume)
    generator = Generator(
        vae=autoencoder,
        unet=_load(UNet2DConditionModel, best),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        settings={
            "steps": recipe.sampler.steps,
            "guidance": recipe.sampler.guidance,
            "licence": recipe.licence,
        },
    )
    return generator.save(out / "generator", half=True)


def _load(kind: Any, folder: Path) -> Any:
    return kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
