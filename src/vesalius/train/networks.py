"""Denoisers: built as a recipe says, started from another model's, written, and what a step costs."""

from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.embeddings import TextTimeEmbedding
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn

from vesalius.config import DenoiserRecipe
from vesalius.errors import VesaliusError
from vesalius.models.cost import count_denoiser, outline
from vesalius.models.generator import load_generator
from vesalius.train.latents import Latents

# Where a U-Net and a U-ViT begin and end: what comes in and goes out, and what time, size and a
# summary of the caption become. By the usual rule for Muon these keep AdamW.
EDGES = (
    *("conv_in", "conv_out", "time_embedding", "add_embedding", "class_embedding"),
    *("encoder_hid_proj", "patch_embed", "context_embed", "decoder_pred", "final_layer"),
)


def build_denoiser(recipe: DenoiserRecipe) -> nn.Module:
    """The denoiser that the recipe describes; its weights are drawn from the global generator.

    Raises VesaliusError for arguments that its class does not take.
    """
    if recipe.kind == "UViT":
        from vesalius.models.uvit import UViT as kind
    else:
        kind = UNet2DConditionModel
    try:
        denoiser: Any = kind(**recipe.arguments)
    except (TypeError, ValueError) as error:
        raise VesaliusError(f"denoiser.arguments: {error}") from error
    if isinstance(pooled := getattr(denoiser, "add_embedding", None), TextTimeEmbedding):
        # starts without effect, so that a denoiser that had none begins as it was
        nn.init.zeros_(pooled.norm2.weight)
    return cast(nn.Module, denoiser)


def take_over(denoiser: nn.Module, model: str) -> int:
    """Copy the weights of `model`'s denoiser whose names and shapes fit; return how many numbers.

    Raises VesaliusError when none fits, and for a model that cannot be loaded.
    """
    known = load_generator(model, "cpu", "float32").unet.state_dict()
    own = denoiser.state_dict()
    fitting = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise VesaliusError(f"denoiser.init: no weight of {model}'s denoiser fits this one")
    denoiser.load_state_dict(fitting, strict=False)
    return sum(value.numel() for value in fitting.values())


def save_network(network: Any, folder: Path) -> None:
    """Write a diffusers network and leave it as it was.

    diffusers adds its version to the configuration that it writes, and what was compiled for the
    network would be compiled again at the next step.
    """
    config = network._internal_dict
    network._internal_dict = type(config)(config)
    try:
        network.save_pretrained(folder, safe_serialization=True)
    finally:
        network._internal_dict = config


def training_flops(denoiser: Any, latents: Latents, *, frozen: bool = False) -> float:
    """FLOPs of a training step for one image: forward, then the gradients of inputs and weights.

    Each of the three costs what the forward pass does; `frozen` weights have no gradients.
    """
    height, width = latents.mean[torch.zeros(1, dtype=torch.long)].shape[2:]
    macs, _ = count_denoiser(outline(denoiser), (height, width), len(latents.empty_state))
    return 2.0 * macs.products * (2 if frozen else 3)
