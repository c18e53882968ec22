"""A generator from nothing but pairs: autoencoder, cached latents, denoiser, all in one folder."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch

from vesalius.config import Optimisation, Recipe, SamplerRecipe
from vesalius.core.atomic import writable_new_folder
from vesalius.errors import VesaliusError
from vesalius.models.folder import pixels_per_cell
from vesalius.models.generator import Generator, load_generator, load_network
from vesalius.models.locate import locate
from vesalius.models.noise_process import training_process
from vesalius.models.text_encoder import load_text_encoder
from vesalius.models.vocabulary import prune_vocabulary
from vesalius.pairs.captions import bundled_words
from vesalius.pairs.table import Pairs
from vesalius.train.denoiser import DenoiserMethod, Stage, build_denoiser
from vesalius.train.distributed import join, on_first_rank
from vesalius.train.latents import Latents
from vesalius.train.loop import train
from vesalius.train.material import (
    Joined,
    Sampler,
    cache,
    open_pairs,
    sample_with,
    save_generator,
    settings_of,
    write_recipe,
    write_training_rows,
)
from vesalius.train.method import choose_rows
from vesalius.train.methods.autoencoder import AutoencoderMethod, network_of
from vesalius.train.prepare import settle


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
    pairs = Joined(open_pairs(pairs_path))
    training_process(build_scheduler(recipe.sampler), recipe.denoiser)
    train_rows, held_out = len(pairs.rows("train")), len(pairs.rows("val"))
    with torch.device("meta"):
        denoiser: Any = build_denoiser(recipe.denoiser)
    unet = denoiser.config
    check_sizes(recipe, unet)
    weights = sum(p.numel() for p in denoiser.parameters())
    sizes = [stage.size for stage in recipe.denoiser.sizes] + [recipe.size]
    latents = sum((int(unet.sample_size) * size // recipe.size) ** 2 for size in sizes)
    symmetric = sum(name == "square" for name in pairs.column("symmetry"))
    images = len(pairs) + symmetric * (recipe.denoiser.views - 1)
    captions = len(set(pairs.column("caption")))
    text = captions * recipe.text_encoder.tokens * int(unet.cross_attention_dim)
    # a trained autoencoder is deterministic; a frozen one has mean and deviation
    kept = 2 if isinstance(recipe.autoencoder, str) else 1
    cache = 2 * (images * int(unet.in_channels) * latents * kept + text)
    stages = {"denoiser": recipe.denoiser.optimisation}
    trains, frozen = f"a denoiser of {weights / 1e6:.1f} M parameters", recipe.text_encoder.source
    if recipe.text_encoder.vocabulary:
        frozen += f", of its words {recipe.text_encoder.vocabulary:,}"
    if isinstance(recipe.autoencoder, str):
        frozen += f"; the autoencoder of {recipe.autoencoder}"
    else:
        part = "'s decoder" if recipe.autoencoder.train == "decoder" else ""
        trains = f"{recipe.autoencoder.kind}{part}, then {trains}"
        if part:
            source = recipe.autoencoder.encoder or recipe.autoencoder.init
            frozen += f"; the encoder of {source}"
        stages = {"autoencoder": recipe.autoencoder.optimisation, **stages}
    lengths = {name: say_length(stage, train_rows) for name, stage in stages.items()}
    for stage in recipe.denoiser.sizes:
        lengths["denoiser"] += f"; until {stage.until_images:,} at {stage.size} pixels"
    return {
        "pairs": f"{train_rows:,} to train on, {held_out:,} held out, {captions:,} captions",
        "trains": trains,
        "frozen": frozen,
        **lengths,
        "cache": f"{cache / 1e6:.0f} MB on disk, and in the memory of a GPU",
        "optimiser": f"{weights * 20 / 1e9:.1f} GB for weights, gradients, moments and average",
    }


def with_sample_size(recipe: Recipe, model_folder: Callable[[str], Path | None] = locate) -> Recipe:
    """The recipe with the denoiser's `sample_size`, which follows from the size of the images.

    Raises VesaliusError where another one is given, and for a size that is no whole number of cells.
    """
    arguments, part = recipe.denoiser.arguments, recipe.autoencoder
    source = part if isinstance(part, str) else part.encoder
    if source:
        if (folder := model_folder(source)) is None:
            if "sample_size" in arguments:
                return recipe
            raise VesaliusError(
                f"the model {source} is not on this machine, so that its latents' size is unknown: "
                f"run `hf download {source}`, or give denoiser.arguments.sample_size"
            )
        factor = pixels_per_cell(folder)
    else:
        assert not isinstance(part, str)
        with torch.device("meta"):
            outline: Any = network_of(part)
        factor = 2 ** (len(outline.config.block_out_channels) - 1)
    if recipe.size % factor:
        raise VesaliusError(f"size {recipe.size} is not a multiple of {factor} pixels")
    side = recipe.size // factor
    if arguments.get("sample_size", side) not in (side, [side, side], (side, side)):
        raise VesaliusError(
            f"denoiser.arguments.sample_size is {arguments['sample_size']}, and images of size "
            f"{recipe.size} have {side} x {side} cells: leave it out, and it follows the size"
        )
    denoiser = recipe.denoiser.model_copy(update={"arguments": {"sample_size": side} | arguments})
    return recipe.model_copy(update={"denoiser": denoiser})


def check_sizes(recipe: Recipe, denoiser: Any) -> None:
    """Raise VesaliusError for smaller sizes that the denoiser, of that configuration, cannot take.

    A U-Net halves the latents' side at all levels but one; a U-ViT cuts it into patches.
    """
    side = denoiser.sample_size
    smallest = denoiser.get("patch_size") or 2 ** (len(denoiser.block_out_channels) - 1)
    for stage in recipe.denoiser.sizes:
        if stage.size * side % (recipe.size * smallest):
            raise VesaliusError(
                f"denoiser.sizes: {stage.size} pixels do not fit this denoiser: take a multiple of "
                f"{recipe.size * smallest // math.gcd(recipe.size * smallest, side)}"
            )


def say_length(stage: Optimisation, rows: int) -> str:
    """Images, steps and epochs of a stage, in words."""
    steps = -(-stage.seen_images // stage.batch)
    return (
        f"{stage.seen_images:,} images seen in {steps:,} steps of {stage.batch}, "
        f"{stage.seen_images / max(1, rows):.1f} epochs"
    )


def train_from_scratch(
    recipe: Recipe,
    pairs_path: Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    resume: bool = False,
    sampler: Sampler | None = None,
) -> Path:
    """Train every stage of `recipe` on a pairs table; return the folder of the finished generator.

    `out` receives recipe.yaml, training_rows.json, autoencoder/ unless that is frozen, latents/,
    denoiser/ and generator/ (diffusers layout, half precision). A stage whose run is complete is
    not trained again, so an interrupted call is repeated with `resume` until it returns. `sampler`
    draws samples during training.
    """
    out, pairs, device = Path(out), Joined(open_pairs(pairs_path)), join(device)
    writable_new_folder(out, overwrite=True)  # a run may be gone on with; a file is in the way
    recipe = with_sample_size(_settled(recipe, out, device))
    scheduler = build_scheduler(recipe.sampler)
    process = training_process(scheduler, recipe.denoiser, device)
    if recipe.denoiser.sizes:
        with torch.device("meta"):
            outline: Any = build_denoiser(recipe.denoiser)
        check_sizes(recipe, outline.config)
    tokenizer, text_encoder = _text_encoder(recipe, pairs)
    rows = choose_rows(pairs, recipe.denoiser.optimisation)
    on_first_rank(partial(write_recipe, recipe, out))
    bases = [each for each in (kept_encoder(recipe), recipe.denoiser.init) if each]
    on_first_rank(partial(write_training_rows, pairs, rows.train, out, bases))
    autoencoder = _autoencoder(recipe, pairs, out, device, resume)
    text_encoder.to(device)

    def latents_of(size: int, images_in: str) -> Latents:
        folder, views = out / "latents", recipe.denoiser.views
        parts = (pairs, autoencoder, tokenizer, text_encoder)
        return cache(*parts, size, folder, views, images_in=images_in)

    latents = latents_of(recipe.size, "images")
    smaller = [
        Stage(s.size, s.until_images, latents_of(s.size, f"images-{s.size}"))
        for s in recipe.denoiser.sizes
    ]
    if kept_encoder(recipe):
        latents = replace(latents, scaling_factor=float(autoencoder.config.scaling_factor))
    else:
        autoencoder.register_to_config(scaling_factor=latents.scaling_factor)

    method = DenoiserMethod(recipe.denoiser, process, latents, rows, device, smaller)
    method.settings = settings_of(recipe)
    generator = Generator(
        vae=autoencoder,
        unet=method.module,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        settings={
            "steps": recipe.sampler.steps,
            "guidance": recipe.sampler.guidance,
            "licence": recipe.licence,
        },
    )
    sample_with(method, sampler, generator, recipe.prompts, pairs, rows)
    best = train(method, recipe.denoiser.optimisation, out / "denoiser", resume)
    generator.unet = load_network(type(method.module), best)
    on_first_rank(lambda: save_generator(generator, out / "generator"))
    return out / "generator"


def _settled(recipe: Recipe, out: Path, device: str) -> Recipe:
    """The recipe with the precision of each stage resolved."""
    stages: dict[str, Any] = {}
    for name in ("autoencoder", "denoiser"):
        if not isinstance(stage := getattr(recipe, name), str):
            plan = settle(stage.optimisation, out / name, device)
            stages[name] = stage.model_copy(update={"optimisation": plan})
    return recipe.model_copy(update=stages)


def _text_encoder(recipe: Recipe, pairs: Pairs) -> tuple[Any, Any]:
    """Tokenizer and text encoder, with no more word pieces than the recipe asks for."""
    text = recipe.text_encoder
    tokenizer, encoder = load_text_encoder(text.source, text.tokens)
    if text.vocabulary is None:
        return tokenizer, encoder
    kept = [*(caption or "" for caption in pairs.column("caption")), *recipe.prompts]
    return prune_vocabulary(tokenizer, encoder, [*kept, *bundled_words()], text.vocabulary)


def _autoencoder(recipe: Recipe, pairs: Pairs, out: Path, device: str, resume: bool) -> Any:
    """The autoencoder of the model that the recipe names, or one trained as it says."""
    if isinstance(recipe.autoencoder, str):
        autoencoder = load_generator(recipe.autoencoder, device, "float32").vae
    else:
        stage = AutoencoderMethod(recipe.autoencoder, pairs, recipe.size, device)
        best = train(stage, recipe.autoencoder.optimisation, out / "autoencoder", resume)
        autoencoder = load_network(type(stage.autoencoder), best)
    return autoencoder.to(device, memory_format=torch.channels_last).eval()


def kept_encoder(recipe: Recipe) -> str | None:
    """The model whose encoder is taken, and with it its latents and their scale; None for none."""
    part = recipe.autoencoder
    return part if isinstance(part, str) else part.encoder
