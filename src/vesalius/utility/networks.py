"""Networks that train as classifiers: timm's, pretrained or from scratch, and a CLIP with low-rank layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError
from vesalius.models.networks import backbones
from vesalius.models.networks.resize import View

RANK = 16  # of a CLIP's low-rank layers, alpha as much (CytoDiff)


@dataclass(frozen=True)
class Network:
    """Makes a new network for every training."""

    name: str
    # of prompts, one a class; may draw from torch's seed
    make: Callable[[Sequence[str]], nn.Module]
    view: View
    mean: tuple[float, ...]  # of channels from 0 to 1
    std: tuple[float, ...]
    lr: float
    about: dict[str, Any]


def find_network(name: str) -> Network:
    """A network by name, see `backbones`. Raises VesaliusError where it cannot be had."""
    kind, colon, rest = name.partition(":")
    if colon and kind == "clip":
        return _clip(rest)
    if colon and kind == "scratch":
        return _timm(rest, None, pretrained=False)
    if Path(name).is_dir():
        return _clip(name)
    if name == "efficientnet-lite0":
        network = backbones.converted_backbone(name)
        return _timm(backbones.CONVERTED[name], network.files[0], pretrained=True)
    if kind in ("inception", "swav", "sscd"):
        raise VesaliusError(
            f"{name} is for --tune probe: choose timm:NAME, scratch:NAME or clip:ID"
        )
    architecture, _, path = (rest if colon and kind == "timm" else name).partition("=")
    return _timm(architecture, Path(path) if path else None, pretrained=True)


def _timm(name: str, file: Path | None, *, pretrained: bool) -> Network:
    found = backbones.timm_backbone(name, file, random=not pretrained)
    about = {"network": name, "weights": str(found.files[0]) if pretrained else "random"}

    def make(prompts: Sequence[str]) -> nn.Module:
        if not pretrained:
            return backbones.new_timm(name, len(prompts))
        body: Any = found.load().requires_grad_(True)
        dims = getattr(body, "head_hidden_size", body.num_features)
        head = nn.Linear(dims, len(prompts))
        nn.init.zeros_(head.weight)
        return nn.Sequential(body, head)

    lr = 1e-4 if pretrained else 1e-3
    view = View("crop", found.side, found.short)
    return Network(name, make, view, found.mean, found.std, lr, about)


def _clip(source: str) -> Network:
    found = backbones.transformers_backbone(source)
    folder = backbones.cached(source, ("config.json",))
    way = "crop" if found.short else "squash"
    about = {"network": f"CLIP {source}", "weights": ", ".join(str(f) for f in found.files),
             "lora": f"rank {RANK}, alpha {RANK}, attention of the image half"}  # fmt: skip
    make = partial(_ClipClassifier, source, folder)
    view = View(way, found.side, found.short)
    return Network(source, make, view, found.mean, found.std, 1e-4, about)


class _ClipClassifier(nn.Module):
    """Images against one direction a class, which starts as the embedding of the class's prompt.

    The text half is frozen, so that it is asked once; low-rank layers in the attention of the image
    half train, and the directions.
    """

    def __init__(self, source: str, folder: Path, prompts: Sequence[str]) -> None:
        super().__init__()
        from peft import LoraConfig, inject_adapter_in_model

        from vesalius.models.networks.clip import TransformersClip

        clip = TransformersClip(source, folder, "cpu")
        self.head = nn.Parameter(clip.texts(prompts).clone())  # (C, D)
        self.bias = nn.Parameter(torch.zeros(len(prompts)))
        model = clip.model.requires_grad_(False)
        self.scale = float(model.logit_scale.exp())
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(names))
        with quiet():
            inject_adapter_in_model(config, model.vision_model)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found = self.model.get_image_features(pixel_values=x)
        image = nn.functional.normalize(getattr(found, "pooler_output", found), dim=-1)
        return self.scale * image @ nn.functional.normalize(self.head, dim=-1).T + self.bias
