"""All weights of a generator's U-Net, and of its text encoder where that is trained too."""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import nn

from vesalius.config import FullRecipe
from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.models.adapters import UNUSED
from vesalius.models.generator import Generator, load_network
from vesalius.models.noise_process import is_flow
from vesalius.train.conditioning import EncodedText
from vesalius.train.denoising import DenoisingMethod
from vesalius.train.fine_tuning import FineTuning, Material
from vesalius.train.networks import EDGES, save_network


class FullMethod(DenoisingMethod):
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
        super().__init__(
            nn.ModuleDict(parts), material.data, recipe.objective, recipe.optimisation, device, text
        )

    def save(self, module: nn.Module, folder: Path) -> None:
        with quiet():
            for name, part in module.named_children():
                if name == "unet":
                    save_network(part, folder / name)
                else:
                    part.save_pretrained(folder / name)  # pyright: ignore[reportCallIssue]


def trainable(module: Any) -> Any:
    """`module` with every weight that decides its output made trainable, in float32."""
    module.requires_grad_(True).float()
    for name, parameter in module.named_parameters():
        if name.startswith(UNUSED):
            parameter.requires_grad_(False)
    return module


def trained_scheduler(recipe: FullRecipe, base: Generator) -> Any:
    """The base model's scheduler as the recipe changes it: it is saved with the result.

    A zero-terminal-SNR schedule is sampled from its last step on (Lin et al. 2024, section 3.3);
    where the scheduler has no such schedule, DDIM, which has, takes its place.
    """
    scheduler = base.scheduler
    changes: dict[str, Any] = {}
    if recipe.prediction:
        changes["prediction_type"] = recipe.prediction
    if recipe.zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if not changes:
        return scheduler
    if is_flow(scheduler):
        raise VesaliusError(
            f"{base.name} predicts a flow: prediction and zero_terminal_snr are for models that "
            "predict noise or v"
        )
    kind = type(scheduler)
    if not changes.keys() <= inspect.signature(kind.__init__).parameters.keys():
        kind = DDIMScheduler
        changes["clip_sample"] = False  # its default is for pixels
    return kind.from_config(scheduler.config, **changes)


def save_generator(recipe: FullRecipe, material: Material, best: Path, out: Path) -> Path:
    """Write `out`/generator: the base with the best weights in place of those that were trained."""
    base = material.base
    for part in sorted(path.name for path in best.iterdir()):
        setattr(base, part, load_network(type(getattr(base, part)), best / part))
    base.settings |= recipe.sampler.model_dump(exclude_none=True)
    if recipe.licence != "as the base model":
        base.settings["licence"] = recipe.licence
    if recipe.size != base.native_size[0]:
        base.settings["size"] = recipe.size
    return base.save(out / "generator", half=True)


KIND = FineTuning(FullRecipe, FullMethod, scheduler=trained_scheduler, save=save_generator)
