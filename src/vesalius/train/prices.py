"""What a recipe or a model costs before there is a table: parameters, products, memory, speed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from vesalius.config import ContrastiveRecipe, FineTuneRecipe, Optimisation, Recipe
from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.models.cost import (
    TRAINING_BYTES_A_PARAMETER,
    Macs,
    chest_diffusion,
    cost_of,
    known_shapes,
    stable_diffusion,
)
from vesalius.models.generator import Generator, load_skeleton
from vesalius.models.locate import local_folder
from vesalius.models.text_encoder import outline_text_encoder
from vesalius.train.estimate import TimedSteps, needs_with, unknown_until
from vesalius.train.methods.autoencoder import network_of
from vesalius.train.networks import build_denoiser
from vesalius.train.session import Say, silent

SPEED = "images a second"
REFERENCES = (256, 512)  # pixels, of Stable Diffusion 1.x


@dataclass(frozen=True)
class Price:
    """One model: what is None is not known, or does not apply; `left_out` says why it is not known."""

    name: str
    parameters: dict[str, int | None]  # of unet, vae, text_encoder
    size: tuple[int, int] | None = None  # width, height in pixels
    tokens: int | None = None
    step: Macs | None = None  # one call of the denoiser for one image
    decoding: Macs | None = None
    trained_parameters: int | None = None
    rest_bytes: float | None = None  # of weights, gradients, optimiser state and average
    image_bytes: int | None = None  # of each image of a forward pass
    images: int | None = None  # of a forward pass
    images_per_second: float | None = None  # of training, on the device that was asked about
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> float | None:
        """Of a step of training."""
        if self.rest_bytes is None or self.image_bytes is None or self.images is None:
            return None
        return self.rest_bytes + self.images * self.image_bytes


def prices_of(things: Sequence[Any], device: str, on_message: Say = silent) -> list[Price]:
    """Each recipe or model's name, then the references beside it; a few steps are taken on `device`.

    `on_message` gets what is being timed. Without a recipe nothing is timed, as nobody says what a step is. No weight is read.
    Raises VesaliusError for a model that is not known well enough.
    """
    found = []
    for thing in things:
        if isinstance(thing, str):
            found.append(_of_model(load_skeleton(thing)))
            continue
        on_message(f"timing: a few steps of {thing.name} are taken ...")
        found.append(price_of(thing, device))
    if all(isinstance(x, str) or x.name != "chest-diffusion" for x in things):
        found.append(_of_model(chest_diffusion()))
    plans = [plan for x in things if not isinstance(x, str) and (plan := _plan(x)).batch]
    sides = [(pixels // 8, 1) for pixels in REFERENCES]
    each, reason = {}, ""
    if plans:
        on_message("timing: a few steps of Stable Diffusion 1.x are taken ...")
        outline = stable_diffusion(REFERENCES[-1]).unet
        each, reason = _timed(TimedSteps(outline, 77, plans[0], sides), device)
    for pixels in REFERENCES:
        price = _of_model(stable_diffusion(pixels))
        if plans:
            price = replace(price, images=plans[0].micro or plans[0].batch)
            price = _with_speed(price, each.get(pixels // 8), reason)
        found.append(price)
    return found


def _plan(recipe: Any) -> Optimisation:
    return recipe.denoiser.optimisation if isinstance(recipe, Recipe) else recipe.optimisation


def _timed(steps: TimedSteps, device: str) -> tuple[dict[int, float], str]:
    """Seconds an image by side, or why there are none."""
    try:
        return steps.seconds(device)[0], ""
    except VesaliusError as error:
        return {}, str(error)


def _with_speed(price: Price, seconds: float | None, reason: str) -> Price:
    if seconds is None:
        return replace(price, left_out=price.left_out | {SPEED: reason})
    return replace(price, images_per_second=1 / seconds)


def _of_model(generator: Generator, pixels: int | None = None) -> Price:
    """A generator on the meta device, with what training all of its denoiser takes."""
    cost = cost_of(generator, pixels)
    return Price(
        name=cost.name,
        parameters=dict[str, int | None](cost.parameters),
        size=cost.size,
        tokens=cost.tokens,
        step=cost.step,
        decoding=cost.decoding,
        trained_parameters=cost.parameters["unet"],
        rest_bytes=cost.training_bytes(0),
        image_bytes=cost.saved_bytes,
    )


def price_of(recipe: Any, device: str) -> Price:
    """What a recipe costs; a few of its steps are taken on `device`. Raises as `prices_of` does."""
    if isinstance(recipe, FineTuneRecipe):
        return _fine_tuned(recipe, device)
    if isinstance(recipe, Recipe):
        return _from_scratch(recipe, device)
    if isinstance(recipe, ContrastiveRecipe):
        return _contrastive(recipe)
    raise VesaliusError(f"what the method {recipe.method} costs is known to its package alone")


def _base(model: str) -> Generator:
    """A model on the meta device, from its folder or by built-in shapes."""
    folder = local_folder(model)
    base = load_skeleton(folder) if folder else known_shapes(model)
    if base is None:
        raise VesaliusError(f"what {model} costs is {unknown_until(model)}")
    return base


def _fine_tuned(recipe: FineTuneRecipe, device: str) -> Price:
    base, plan = _base(recipe.model), recipe.optimisation
    price = replace(_of_model(base, recipe.size), name=recipe.name)
    needs = needs_with(recipe, base)
    price = replace(
        price,
        trained_parameters=needs.parameters,
        rest_bytes=needs.rest_bytes,
        image_bytes=needs.image_bytes,
        images=plan.micro or plan.batch or None,
    )
    if not plan.batch:
        reason = "a private step has as many images as its patients: vesalius train --dry-run"
        return replace(price, left_out={SPEED: reason})
    each, reason = _timed(needs.steps, device)
    return _with_speed(price, each.get(recipe.size // base.vae_factor), reason)


def _from_scratch(recipe: Recipe, device: str) -> Price:
    part, plan = recipe.autoencoder, recipe.denoiser.optimisation
    left_out: dict[str, str] = {}
    if isinstance(part, str):
        vae: Any = _base(part).vae
    else:
        with torch.device("meta"), quiet():
            vae = network_of(part)
    with torch.device("meta"), quiet():
        side = recipe.size // 2 ** (len(vae.config.block_out_channels) - 1)
        arguments = {"sample_size": side} | recipe.denoiser.arguments
        unet = build_denoiser(recipe.denoiser.model_copy(update={"arguments": arguments}))
    text, source = recipe.text_encoder, recipe.text_encoder.source
    encoder = outline_text_encoder(source)
    if encoder is None:
        left_out["text encoder"] = f"{source} is not on this machine"
    elif text.vocabulary:
        left_out["text encoder"] = "its vocabulary depends on the captions"
    window = SimpleNamespace(model_max_length=text.tokens)
    generator = Generator(vae, unet, encoder or nn.Identity(), window, None, name=recipe.name)
    price = _of_model(generator, recipe.size)
    if left_out:
        price = replace(price, parameters=price.parameters | {"text_encoder": None})
    if not isinstance(part, str) and part.encoder:
        left_out["autoencoder"] = f"its encoder is that of {part.encoder}"
        price = replace(price, parameters=price.parameters | {"vae": None}, decoding=None)
    price = replace(
        price,
        rest_bytes=(price.trained_parameters or 0) * TRAINING_BYTES_A_PARAMETER,
        images=plan.micro or plan.batch,
        left_out=left_out,
    )
    each, reason = _timed(TimedSteps(unet, text.tokens, plan, [(side, 1)]), device)
    return _with_speed(price, each.get(side), reason)


def _contrastive(recipe: ContrastiveRecipe) -> Price:
    source = recipe.text_encoder.source
    encoder = outline_text_encoder(source)
    count = encoder and sum(weight.numel() for weight in encoder.parameters())
    known: dict[str, int | None] = {"unet": None, "vae": None, "text_encoder": count}
    left_out = {"all but the text encoder": "this recipe trains no generator"}
    if encoder is None:
        left_out["text encoder"] = f"{source} is not on this machine"
    return Price(recipe.name, known, tokens=recipe.text_encoder.tokens, left_out=left_out)
