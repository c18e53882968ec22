"""A generator from nothing but pairs: autoencoder, cached latents, denoiser, all in one folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import yaml
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from vesalius.config import Recipe, SamplerRecipe
from vesalius.data.latents import cached_latents
from vesalius.data.pairs import read_pairs
from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path
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


def train_from_scratch(
    recipe: Recipe,
    pairs_path: Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    resume: bool = False,
    on_latents: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Train every stage of `recipe` on a pairs table; return the folder of the finished generator.

    `out` receives recipe.yaml, autoencoder/, latents/, denoiser/ and generator/ (diffusers layout,
    half precision). A stage whose run is complete is not trained again, so an interrupted call is
    repeated with `resume` until it returns.
    """
    out, pairs = Path(out), read_pairs(pairs_path)
    out.mkdir(parents=True, exist_ok=True)
    scheduler = build_scheduler(recipe.sampler)
    tokenizer, text_encoder = load_text_encoder(
        recipe.text_encoder.source, recipe.text_encoder.tokens
    )
    with atomic_path(out / "recipe.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))

    stage = AutoencoderMethod(recipe.autoencoder, pairs, recipe.size, device)
    best = train(stage, recipe.autoencoder.optimisation, out / "autoencoder", resume)
    autoencoder = _load(type(stage.module), best).to(device, memory_format=torch.channels_last)
    latents = cached_latents(
        pairs,
        autoencoder.eval(),
        tokenizer,
        text_encoder.to(device),
        recipe.size,
        out / "latents",
        recipe.denoiser.views,
        on_latents,
    )
    autoencoder.register_to_config(scaling_factor=latents.scaling_factor)

    method = DenoiserMethod(recipe.denoiser, latents, pairs, device)
    best = train(method, recipe.denoiser.optimisation, out / "denoiser", resume)
    generator = Generator(
        vae=autoencoder.half(),
        unet=_load(UNet2DConditionModel, best).half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        scheduler=scheduler,
        settings={"steps": recipe.sampler.steps, "guidance": recipe.sampler.guidance},
    )
    return generator.save(out / "generator")


def _load(kind: Any, folder: Path) -> ModelMixin:
    return kind.from_pretrained(folder, use_safetensors=True, local_files_only=True)
