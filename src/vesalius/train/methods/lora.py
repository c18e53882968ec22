"""Low-rank adaptation (Hu et al. 2022, arXiv 2106.09685) of a generator's attention layers.

    W' = W + (alpha / rank) B A,    A (rank, in) random, B (out, rank) zero at the start

W stays as it is, and is held in the recipe's precision: nothing of it is saved.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.config import LoraRecipe
from vesalius.core.quiet import quiet
from vesalius.models.adapters import add_lora, lora_tensors, save_lora
from vesalius.train.denoiser import Denoising, EncodedText
from vesalius.train.material import Material


class LoraMethod:
    """Train a LoRA of the U-Net, and of the text encoder where the recipe says so (CytoDiff)."""

    name = "lora"

    def __init__(self, recipe: LoraRecipe, material: Material, about: dict[str, Any]) -> None:
        base, device, plan = material.base, material.device, recipe.optimisation
        self.about = about
        dtype = getattr(torch, plan.precision)
        with quiet():
            unet = base.unet.to(device, dtype, memory_format=torch.channels_last)
        encoder = base.text_encoder if recipe.train.text_encoder else None
        parts, text = {"unet": unet}, None
        if encoder is not None:
            parts["text_encoder"] = encoder.to(device, dtype)
            text = EncodedText(base.tokenizer, encoder, material.captions, device)
        wanted = recipe.lora
        add_lora(unet, encoder, wanted.rank, wanted.alpha, wanted.targets, seed=plan.seed)
        self.module: nn.Module = nn.ModuleDict(parts)
        self.row_weights = material.rows.weights
        self.denoising = Denoising(
            material.latents, material.rows, material.process, recipe.objective, plan, device, text
        )

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        return self.denoising.loss(self.module.get_submodule("unet"), rows, draw)

    def validate(self, module: nn.Module) -> dict[str, float]:
        return self.denoising.validate(module.get_submodule("unet"))

    def save(self, module: nn.Module, folder: Path) -> None:
        parts = dict(module.named_children())
        folder.mkdir()
        save_lora(folder, lora_tensors(parts["unet"], parts.get("text_encoder")), self.about)
