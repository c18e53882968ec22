"""A generator from nothing but pairs: autoencoder, cached latents, denoiser, all in one folder."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
from torch import nn

from vesalius.config import AutoencoderRecipe, DenoiserRecipe, Optimisation, Recipe, SamplerRecipe
from vesalius.core.atomic import writable_new_folder
from vesalius.core.words import plural
from vesalius.errors import VesaliusError
from vesalius.models.cost import TRAINING_BYTES_A_PARAMETER, count_denoiser
from vesalius.models.folder import cells_multiple, pixels_per_cell
from vesalius.models.generator import Generator, load_generator, load_network
from vesalius.models.locate import local_folder, locate
from vesalius.models.networks import weights
from vesalius.models.noise_process import Process, process_hash, training_process
from vesalius.models.text_encoder import (
    adapted_folder,
    check_source,
    is_here,
    load_text_encoder,
)
from vesalius.models.vocabulary import prune_vocabulary
from vesalius.pairs.captions import bundled_words
from vesalius.pairs.table import Pairs
from vesalius.train.checkpoint import FROZEN
from vesalius.train.checks import begun, check_plan
from vesalius.train.denoising import Data, DenoisingMethod, Stage
from vesalius.train.distributed import join, on_first_rank
from vesalius.train.estimate import (
    QUICK_MACS,
    Estimate,
    Length,
    TimedSteps,
    count_pairs,
    unknown_until,
)
from vesalius.train.latents import (
    CacheSettings,
    Encoders,
    Latents,
    cached_latents,
    weights_hash,
)
from vesalius.train.loop import train
from vesalius.train.methods.autoencoder import AutoencoderMethod, network_of
from vesalius.train.networks import EDGES, build_denoiser, save_network, take_over
from vesalius.train.resuming import images_of, settings_of, settle
from vesalius.train.rows import (
    TrainingPairs,
    choose_rows,
    images_encoded,
    open_pairs,
    sample_prompts,
)
from vesalius.train.run_files import write_recipe, write_training_rows
from vesalius.train.session import Session, Trained, silent
from vesalius.train.timing import Duration, Watch, few_images, seconds_a_caption, time_method


class DenoiserMethod(DenoisingMethod):
    """A U-Net or U-ViT from random weights, on the states of a frozen text encoder."""

    name = "denoiser"
    few_shapes = True
    edges = EDGES

    def __init__(self, recipe: DenoiserRecipe, data: Data, device: str) -> None:
        # Weights are drawn from the recipe's seed, so that the same recipe gives the same model.
        with torch.random.fork_rng():
            torch.manual_seed(recipe.optimisation.seed)
            module = build_denoiser(recipe)
        if recipe.init:
            take_over(module, recipe.init)
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        super().__init__(module.to(device), data, recipe, recipe.optimisation, device)

    def save(self, module: nn.Module, folder: Path) -> None:
        save_network(module, folder)


class Scratch:
    """The `Kind` of recipes without a base model."""

    recipe = Recipe

    def train(self, recipe: Recipe, pairs: Path, out: Path, session: Session) -> Trained:
        """Train every stage of `recipe`; the result is `out`/generator, in half precision.

        `out` also receives recipe.yaml, training_rows.json, autoencoder/ unless that is frozen,
        latents/ and denoiser/. A stage whose run is complete is not trained again, so an
        interrupted call is repeated with `resume` until it returns.
        """
        table, device = TrainingPairs(open_pairs(pairs)), join(session.device)
        session = replace(session, device=device)
        writable_new_folder(out, overwrite=True)  # a run may be resumed; a file is in the way
        check_source(recipe.text_encoder.source)
        recipe = with_sample_size(recipe)
        denoiser = _check(recipe)
        begun(out / "denoiser", session)
        recipe = _settled(recipe, out, session)
        scheduler = build_scheduler(recipe.sampler)
        process = training_process(scheduler, recipe.denoiser, device)
        tokenizer, text_encoder = _text_encoder(recipe, table)
        _check_states(denoiser.config, text_encoder.config)
        rows = choose_rows(table, recipe.denoiser.optimisation)
        on_first_rank(partial(write_recipe, recipe, out, keep=session.resume))
        autoencoder = _autoencoder(recipe, table, out, session)
        parts = Encoders(autoencoder, tokenizer, text_encoder.to(device))
        latents, smaller = _latents(recipe, table, parts, out / "latents", session)
        if kept_encoder(recipe):
            factor = float(autoencoder.config.scaling_factor)
            latents = replace(latents, scaling_factor=factor)
        else:
            autoencoder.register_to_config(scaling_factor=latents.scaling_factor)
        data = Data(latents, rows, process, smaller)
        method = DenoiserMethod(recipe.denoiser, data, device)
        fixed = images_of(table, [*rows.train, *rows.held_out]) | frozen_of(process, parts)
        method.settings = settings_of(recipe, **fixed)
        generator = Generator(
            vae=autoencoder,
            unet=method.module,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            settings=recipe.sampler.model_dump(exclude={"scheduler"}) | {"licence": recipe.licence},
        )
        if session.sampler is not None:
            prompts = sample_prompts(recipe.prompts, table, rows)
            method.draw_samples_with(session.sampler, generator, prompts)
        plan, folder = recipe.denoiser.optimisation, out / "denoiser"
        done = train(method, plan, folder, session)
        generator.unet = load_network(type(method.module), done.best)
        bases = [locate(each) for each in (kept_encoder(recipe), recipe.denoiser.init) if each]
        bases += adapted_folder(recipe.text_encoder.source)

        def finish() -> None:
            write_recipe(recipe, out)
            write_training_rows(table, rows.train, out, bases)
            generator.save(out / "generator", half=True)

        on_first_rank(finish)
        return done.trained(out / "generator", "generator")

    def estimate(self, recipe: Recipe, pairs: Path, session: Session) -> Estimate:
        """What `train` would do; nothing is downloaded, and nothing is left written."""
        check_source(recipe.text_encoder.source)
        table = TrainingPairs(open_pairs(pairs))
        if lacking := _lacking(recipe, table):
            return lacking
        recipe = with_sample_size(recipe, local_folder)
        denoiser, rows = _check(recipe), len(table.rows("train"))
        unet = denoiser.config
        weights = sum(p.numel() for p in denoiser.parameters())
        # images seen until the end of each size, and its latents' side
        stage, side = recipe.denoiser.optimisation, int(unet.sample_size)
        ends = [(s.size, s.until_images) for s in recipe.denoiser.sizes]
        ends.append((recipe.size, stage.seen_images))
        begins = [0, *(until for _, until in ends)]
        parts = [
            (side * size // recipe.size, until - begin)
            for (size, until), begin in zip(ends, begins, strict=False)
        ]
        lengths = {"denoiser": replace(Length.of(stage, rows), sizes=tuple(ends[:-1]))}
        trains, frozen = (
            f"a denoiser of {weights / 1e6:.1f} M parameters",
            recipe.text_encoder.source,
        )
        if recipe.text_encoder.vocabulary:
            frozen += f", of its words {recipe.text_encoder.vocabulary:,}"
        if isinstance(recipe.autoencoder, str):
            frozen += f"; the autoencoder of {recipe.autoencoder}"
        else:
            part = "'s decoder" if recipe.autoencoder.train == "decoder" else ""
            trains = f"{recipe.autoencoder.kind}{part}, then {trains}"
            if part:
                frozen += (
                    f"; the encoder of {recipe.autoencoder.encoder or recipe.autoencoder.init}"
                )
            lengths = {"autoencoder": Length.of(recipe.autoencoder.optimisation, rows), **lengths}
        return Estimate(
            **count_pairs(table, rows),
            trains=trains,
            lengths=lengths,
            frozen=frozen,
            cache_bytes=_cache_bytes(recipe, table, unet, [side for side, _ in parts]),
            optimiser_bytes=weights * TRAINING_BYTES_A_PARAMETER,
            time=_time(recipe, table, denoiser, parts, session),
            results=("generator",),
            result_bytes=2 * weights,
            checkpoint_bytes=stage.keep_checkpoints
            * weights
            * 4
            * (3 + len(stage.ema_half_life_images)),
        )


def frozen_of(process: Process, parts: Encoders) -> dict[str, str]:
    """A setting of the denoiser: its noise, and hashes of what latents and text states come from.

    Of the autoencoder that is all but the decoder, and of a text encoder of which words are cut off all
    but those.
    """
    encoder = weights_hash(parts.autoencoder, without="decoder.")[:16]
    text = weights_hash(parts.text_encoder, without="embeddings.word_embeddings.")[:16]
    return {FROZEN: f"{process_hash(process)}, encoder {encoder}, text encoder {text}"}


def _lacking(recipe: Recipe, pairs: Pairs) -> Estimate | None:
    """What is known without the model whose encoder is taken; None where nothing is lacking."""
    source, rows = kept_encoder(recipe), len(pairs.rows("train"))
    sized = "sample_size" in recipe.denoiser.arguments
    if source is None or sized or local_folder(source) is not None:
        return None
    return Estimate(
        **count_pairs(pairs, rows),
        base=source,
        trains=unknown_until(source),
        lengths={"denoiser": Length.of(recipe.denoiser.optimisation, rows)},
    )


def _time(
    recipe: Recipe,
    pairs: TrainingPairs,
    denoiser: Any,
    parts: Sequence[tuple[int, int]],
    session: Session,
) -> str:
    """How long `train` takes, in words: its stages are begun on a few of the table's images.

    `denoiser` is on the meta device; `parts` are the latents' sides and images seen of its stages.
    """
    device, side = session.device, max(side for side, _ in parts)
    macs, _ = count_denoiser(denoiser, (side, side), recipe.text_encoder.tokens)
    large = torch.device(device).type == "cpu" and 3 * macs.products > QUICK_MACS
    encoders = (recipe.text_encoder.source, kept_encoder(recipe) or "mini")
    if large or not is_here(encoders[0]) or local_folder(encoders[1]) is None:
        steps = TimedSteps(
            denoiser, recipe.text_encoder.tokens, recipe.denoiser.optimisation, parts
        )
        return f"denoiser: {steps.say(device)}"
    recipe = _settled(recipe, Path(os.devnull), session)
    few = pairs.few(range(len(pairs)), few_images(device))
    took, watch = Duration(device), Watch()
    begun = replace(session, progress=watch, on_message=silent)
    held_out = len(pairs.rows("val"))
    with TemporaryDirectory(prefix="vesalius-") as temporary:
        folder = Path(temporary)
        if isinstance(recipe.autoencoder, str):
            autoencoder = load_generator(recipe.autoencoder, device, "float32").vae
        else:
            session.on_message("timing: a few steps of the autoencoder are taken ...")
            plan = recipe.autoencoder.optimisation
            first = AutoencoderMethod(recipe.autoencoder, few, recipe.size, begun)
            first.crops.held()
            timed = time_method(first, plan, folder / "autoencoder")
            took.add("decoding", watch.each * len(pairs))
            took.add_run("autoencoder", timed, plan, (plan.seen_images,), held_out)
            autoencoder = first.autoencoder
        session.on_message(f"timing: {plural(len(few), 'image')} are encoded ...")
        autoencoder = autoencoder.to(device, memory_format=torch.channels_last).eval()
        tokenizer, encoder = load_text_encoder(*encoders[:1], recipe.text_encoder.tokens)
        watch.each = 0.0
        made = Encoders(autoencoder, tokenizer, encoder.to(device))
        latents, smaller = _latents(recipe, few, made, folder / "latents", begun)
        took.add("encoding", watch.each * _images_encoded(recipe, pairs))
        captions = list(dict.fromkeys(few.column("caption")))
        each = seconds_a_caption(tokenizer, encoder, captions)
        took.add("captions", each * len(set(pairs.column("caption"))))
        session.on_message("timing: a few steps of the denoiser are taken ...")
        plan = recipe.denoiser.optimisation
        process = training_process(build_scheduler(recipe.sampler), recipe.denoiser, device)
        data = Data(latents, choose_rows(few, plan), process, smaller)
        ends = (*(stage.until_images for stage in recipe.denoiser.sizes), plan.seen_images)
        method = DenoiserMethod(recipe.denoiser, data, device)
        timed = time_method(method, plan, folder / "denoiser", (0, *ends[:-1]))
        took.add_run("denoiser", timed, plan, ends, held_out)
    return str(took)


def build_scheduler(recipe: SamplerRecipe) -> Any:
    """The diffusers scheduler that the recipe names by `class`, with its other fields."""
    arguments = dict(recipe.scheduler)
    name = arguments.pop("class", "")
    kind = getattr(diffusers, name, None)
    if kind is None or not name.endswith("Scheduler"):
        raise VesaliusError(f"sampler.scheduler.class {name!r} is not a diffusers scheduler")
    return kind(**arguments)


def _check(recipe: Recipe) -> Any:
    """The denoiser on the meta device.

    Raises VesaliusError for whatever of the recipe does not go together.
    """
    stages: list[tuple[Optimisation, tuple[str, ...]]] = [(recipe.denoiser.optimisation, EDGES)]
    if isinstance(part := recipe.autoencoder, AutoencoderRecipe):
        stages.append((part.optimisation, ()))
        if part.lpips_weight:
            weights.find("lpips-alex")
    for plan, edges in stages:
        check_plan(plan, edges)
    training_process(build_scheduler(recipe.sampler), recipe.denoiser)
    with torch.device("meta"):
        denoiser: Any = build_denoiser(recipe.denoiser)
    check_sizes(recipe, denoiser.config)
    check_crop(recipe, denoiser.config)
    return denoiser


def _check_states(denoiser: Any, text_encoder: Any) -> None:
    """Raise VesaliusError where a denoiser does not take the text encoder's states."""
    if denoiser.cross_attention_dim != text_encoder.hidden_size:
        raise VesaliusError(
            f"denoiser.arguments.cross_attention_dim is {denoiser.cross_attention_dim}, and the "
            f"text encoder's states are {text_encoder.hidden_size} wide: give that"
        )


def _images_encoded(recipe: Recipe, pairs: TrainingPairs) -> int:
    plan = recipe.denoiser.optimisation
    return images_encoded(pairs, recipe.denoiser.views, choose_rows(pairs, plan).validated(plan))


def _cache_bytes(recipe: Recipe, pairs: TrainingPairs, unet: Any, sides: Sequence[int]) -> int:
    """Of latents of these sides and of text states, as float16."""
    images = _images_encoded(recipe, pairs)
    captions = len(set(pairs.column("caption")))
    text = captions * recipe.text_encoder.tokens * int(unet.cross_attention_dim)
    # a trained autoencoder is deterministic; a frozen one has mean and deviation
    kept = 2 if isinstance(recipe.autoencoder, str) else 1
    return 2 * (images * int(unet.in_channels) * sum(side**2 for side in sides) * kept + text)


def with_sample_size(recipe: Recipe, model_folder: Callable[[str], Path | None] = locate) -> Recipe:
    """The recipe with the denoiser's `sample_size`, which follows from the size of the images.

    Raises VesaliusError where another one is given, and for a size that is no whole number of cells.
    """
    arguments, part = recipe.denoiser.arguments, recipe.autoencoder
    if source := kept_encoder(recipe):
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
    smallest = cells_multiple(denoiser)
    for stage in recipe.denoiser.sizes:
        if stage.size * side % (recipe.size * smallest):
            raise VesaliusError(
                f"denoiser.sizes: {stage.size} pixels do not fit this denoiser: take a multiple of "
                f"{recipe.size * smallest // math.gcd(recipe.size * smallest, side)}"
            )


def check_crop(recipe: Recipe, denoiser: Any) -> None:
    """Raise VesaliusError where the autoencoder is to be trained on crops that images do not have."""
    if isinstance(part := recipe.autoencoder, str):
        return
    side = denoiser.sample_size
    cell = recipe.size // (side if isinstance(side, int) else side[0])  # pixels
    if part.crop > recipe.size or part.crop % cell:
        raise VesaliusError(
            f"autoencoder.crop is {part.crop}, of images of {recipe.size} pixels: give a multiple of "
            f"{cell} that is not larger"
        )


def _latents(
    recipe: Recipe, pairs: TrainingPairs, parts: Encoders, folder: Path, session: Session
) -> tuple[Latents, list[Stage]]:
    """Latents of the recipe's size, and of the smaller ones that come first."""
    plan = recipe.denoiser.optimisation
    validated = frozenset(choose_rows(pairs, plan).validated(plan))

    def of(size: int, images_in: str) -> Latents:
        settings = CacheSettings(
            size, recipe.denoiser.views, images_in=images_in, held_out=validated
        )
        return cached_latents(pairs, parts, settings, folder, session)

    latents = of(recipe.size, "images")
    return latents, [
        Stage(s.size, s.until_images, of(s.size, f"images-{s.size}")) for s in recipe.denoiser.sizes
    ]


def _settled(recipe: Recipe, out: Path, session: Session) -> Recipe:
    """The recipe with the precision of each stage resolved."""
    stages: dict[str, Any] = {}
    for name in ("autoencoder", "denoiser"):
        if not isinstance(stage := getattr(recipe, name), str):
            plan = settle(stage.optimisation, out / name, session.device, session.on_message)
            stages[name] = stage.model_copy(update={"optimisation": plan})
    return recipe.model_copy(update=stages)


def _text_encoder(recipe: Recipe, pairs: Pairs) -> tuple[Any, Any]:
    """Tokenizer and text encoder, with no more word pieces than the recipe asks for."""
    text = recipe.text_encoder
    tokenizer, encoder = load_text_encoder(text.source, text.tokens)
    if text.vocabulary is None:
        return tokenizer, encoder
    kept = [*pairs.column("caption"), *recipe.prompts]
    return prune_vocabulary(tokenizer, encoder, [*kept, *bundled_words()], text.vocabulary)


def _autoencoder(recipe: Recipe, pairs: Pairs, out: Path, session: Session) -> Any:
    """The autoencoder of the model that the recipe names, or one trained as it says."""
    if isinstance(recipe.autoencoder, str):
        autoencoder = load_generator(recipe.autoencoder, session.device, "float32").vae
    else:
        part, folder = recipe.autoencoder, out / "autoencoder"
        method = AutoencoderMethod(part, pairs, recipe.size, session)
        done = train(method, part.optimisation, folder, session)
        autoencoder = load_network(type(method.autoencoder), done.best)
    return autoencoder.to(session.device, memory_format=torch.channels_last).eval()


def kept_encoder(recipe: Recipe) -> str | None:
    """The model whose encoder is taken, and with it its latents and their scale; None for none."""
    part = recipe.autoencoder
    return part if isinstance(part, str) else part.encoder


KIND = Scratch()
