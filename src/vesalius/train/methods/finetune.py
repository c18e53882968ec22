"""All weights of a generator's U-Net, and of its text encoder where that is trained too."""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from vesalius.config import FullRecipe
from vesalius.core.quiet import quiet
from vesalius.models.adapters import UNUSED
from vesalius.train.denoiser import EDGES, Denoising, EncodedText, save_network
from vesalius.train.material import Material


def trained_scheduler(scheduler: Any, recipe: FullRecipe) -> Any:
    """The base model's scheduler as the recipe changes it: it is saved with the result.

    A zero-terminal-SNR schedule is sampled from its last step on (Lin et al. 2024, section 3.3);
    where the scheduler has no such schedule, DDIM, which has, takes its place.
    """
    changes: dict[str, Any] = {}
    if recipe.prediction:
        changes["prediction_type"] = recipe.prediction
    if recipe.zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    kind = type(scheduler)
    if not changes.keys() <= inspect.signature(kind.__init__).parameters.keys():
        kind = DDIMScheduler
        changes["clip_sample"] = False  # its default is for pixels
    return kind.from_config(scheduler.config, **changes) if changes else scheduler


def trainable(module: Any) -> Any:
    """`module` with every weight that decides its output made trainable, in float32."""
    module.requires_grad_(True).float()
    for name, parameter in module.named_parameters():
        if name.startswith(UNUSED):
            parameter.requires_grad_(False)
    return module


class FullMethod:
    """Fine-tune the U-Net (EyeDiff), or U-Net and text encoder together (MediSyn)."""

    name = "full"
    edges = (*EDGES, "text_encoder")

    def __init__(self, recipe: FullRecipe, material: Material) -> None:
        base, device = material.base, material.device
        unet = trainable(base.unet).to(device, memory_format=torch.channels_last)
        parts, text = {"unet": unet}, None
        if recipe.train.text_encoder:
            parts["text_encoder"] = trainable(base.text_encoder).to(device)
            text = EncodedText(base.tokenizer, base.text_encoder, material.captions, device)
        self.module: nn.Module = nn.ModuleDict(parts)
        self.row_weights = material.rows.weights
        self.denoising = Denoising(
            material.latents,
            material.rows,
            material.process,
            recipe.objective,
            recipe.optimisation,
            device,
            text,
        )

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        return self.denoising.loss(self.module.get_submodule("unet"), rows, draw)

    def validate(self, module: nn.Module) -> dict[str, float]:
        return self.denoising.validate(module.get_submodule("unet"))

    def save(self, module: nn.Module, folder: Path) -> None:
        with quiet():
            for name, part in module.named_children():
                if name == "unet":
                    save_network(part, folder / name)
                else:
                    part.save_pretrained(folder / name)  # pyright: ignore[reportCallIssue]
