"""Low-rank adaptation (Hu et al. 2022, arXiv 2106.09685) of a generator's attention layers.

    W' = W + (alpha / rank) B A,    A (rank, in) random, B (out, rank) zero at the start

W stays as it is, and is held in the recipe's precision: nothing of it is saved.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vesalius.config import LoraRecipe
from vesalius.core.quiet import quiet
from vesalius.models.adapters import add_lora, lora_tensors, save_lora
from vesalius.train.conditioning import EncodedText
from vesalius.train.denoising import DenoisingMethod
from vesalius.train.fine_tuning import FineTuning, Material
from vesalius.train.rows import TrainingPairs


class LoraMethod(DenoisingMethod):
    """Train a LoRA of the U-Net, and of the text encoder where the recipe says so (CytoDiff)."""

    name = "lora"
    frozen = True

    def __init__(self, recipe: LoraRecipe, material: Material) -> None:
        base, device, plan = material.base, material.device, recipe.optimisation
        self.notes = material.notes
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
        super().__init__(nn.ModuleDict(parts), material.data, recipe.objective, plan, device, text)

    def save(self, module: nn.Module, folder: Path) -> None:
        parts = dict(module.named_children())
        folder.mkdir()
        save_lora(folder, lora_tensors(parts["unet"], parts.get("text_encoder")), self.notes)


def notes(recipe: LoraRecipe, pairs: TrainingPairs, rows: list[int]) -> dict[str, Any]:
    """Rank and alpha, and the first captions, which call up what was learnt."""
    captions = pairs.column("caption")
    own = sorted({captions[row] for row in rows if row < pairs.own})
    return {"rank": recipe.lora.rank, "alpha": recipe.lora.alpha, "captions": own[:20]}


KIND = FineTuning(LoraRecipe, LoraMethod, notes)
