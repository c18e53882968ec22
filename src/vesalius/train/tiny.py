"""Autoencoders of the TAESD family: published weights, and decoders of another shape."""

import inspect
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor, nn

from vesalius.core.tensors import read_tensors
from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator


def build_from(model: str, arguments: dict[str, Any]) -> AutoencoderTiny:
    """The autoencoder of `model`, its decoder reshaped by `arguments`; its latents stay the same.

    Raises VesaliusError for a model whose autoencoder is no AutoencoderTiny, and for arguments
    that its class does not take or that change the encoder.
    """
    base = load_generator(model, "cpu", "float32").vae
    if not isinstance(base, AutoencoderTiny):
        raise VesaliusError(
            f"autoencoder.encoder: {model} has an {type(base).__name__}, and only the encoder of "
            "an AutoencoderTiny can be taken"
        )
    known = inspect.signature(AutoencoderTiny.__init__).parameters
    own = {name: value for name, value in base.config.items() if name in known}
    built = build_tiny(own | arguments)
    for name in ("latent_magnitude", "latent_shift", "scaling_factor", "shift_factor"):
        if built.config[name] != base.config[name]:
            raise VesaliusError(
                f"autoencoder.arguments.{name} would change the latents of {model}: leave it out"
            )
    take_over(built, base)
    return built


def build_tiny(arguments: dict[str, Any]) -> AutoencoderTiny:
    """An AutoencoderTiny. Raises VesaliusError for arguments that it does not take."""
    try:
        model = AutoencoderTiny(**arguments)
    except (TypeError, ValueError) as error:
        raise VesaliusError(f"autoencoder.arguments: {error}") from error
    if len(set(model.config["decoder_block_out_channels"])) > 1:
        raise VesaliusError(
            "autoencoder.arguments.decoder_block_out_channels: an AutoencoderTiny's levels are "
            "all of one width"
        )
    return model


def load_tiny(model: Any, prefix: str) -> None:
    """Load a published TAESD (MIT), <prefix>_encoder and _decoder, into an AutoencoderTiny.

    The published decoder counts the clamp that precedes it as its layer 0; diffusers does not. A
    model whose decoder has another shape gets what fits (see `take_over`).

    Raises VesaliusError for files that are missing or of another kind of latents.
    """
    weights: dict[str, Tensor] = {}
    for part, shift in (("encoder", 0), ("decoder", 1)):
        path = Path(f"{prefix}_{part}.safetensors")
        if not path.is_file():
            raise VesaliusError(f"autoencoder.init: there is no file {path}")
        for name, value in read_tensors(path)[0].items():
            index, rest = name.split(".", 1)
            weights[f"{part}.layers.{int(index) - shift}.{rest}"] = value.float()
    with torch.random.fork_rng():
        base = AutoencoderTiny(latent_channels=model.config.latent_channels)
    try:
        base.load_state_dict(weights)
    except RuntimeError as error:
        raise VesaliusError(
            f"autoencoder.init: {prefix} is no TAESD of {model.config.latent_channels} channels"
        ) from error
    take_over(model, base)


def take_over(model: Any, base: Any) -> int:
    """Copy `base`'s encoder and what fits of its decoder; return how many of the decoder's numbers.

    Layers are found by what they are, such as the second block of the third level, because their
    numbers shift with the number of blocks. What `base` lacks, or has in another width, stays as
    it was drawn, but a block that is added to levels of the same width starts without effect.

    Raises VesaliusError when the encoders have different shapes.
    """
    try:
        model.encoder.load_state_dict(base.encoder.state_dict())
    except RuntimeError as error:
        raise VesaliusError(
            "autoencoder.arguments: with these the weights of the encoder do not fit: only the "
            "decoder may have another shape"
        ) from error
    known, taken = places(base), 0
    for place, layer in places(model).items():
        weights = known[place].state_dict() if place in known else {}
        own = layer.state_dict()
        if weights and all(own[name].shape == value.shape for name, value in weights.items()):
            layer.load_state_dict(weights)
            taken += sum(value.numel() for value in weights.values())
        elif place[0] == "block" and _width(model) == _width(base):
            last = cast(Any, layer).conv[-1]  # of the branch beside the identity
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return taken


def _width(model: Any) -> int:
    return int(model.config["decoder_block_out_channels"][0])


def places(model: Any) -> dict[tuple[str, int, int], nn.Module]:
    """The layers of an AutoencoderTiny's decoder by what they are, level and number.

    A level is counted by its distance from the latents, as their resolution is the same in all.
    """
    layers = iter(model.decoder.layers)
    found = {("first", 0, 0): next(layers)}
    next(layers)  # the activation
    blocks = model.config["num_decoder_blocks"]
    for level, count in enumerate(blocks):
        for number in range(count):
            found["block", level, number] = next(layers)
        if level < len(blocks) - 1:
            next(layers)  # the upsampling
        found["last" if level == len(blocks) - 1 else "after", level, 0] = next(layers)
    return found
