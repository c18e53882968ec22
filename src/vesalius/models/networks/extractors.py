"""The networks that figures are taken with, by name; what cannot be had says why, in one line.

    inception               Inception-v3 of 2015-12-05, resize "bilinear": this project's protocol
    inception-tf1           the same, resized as torch-fidelity does
    inception-antialias     the same, resized as clean-fid does
    efficientnet-lite0      ImageNet, small, in the offline extras
    resnet50, timm:NAME     any network of timm; timm:NAME=FILE.safetensors for weights of your own
    dinov2, rad-dino        transformers' networks, from the hub's cache; hf:ID or hf:FOLDER for others
    swav                    ResNet-50 trained without labels on ImageNet (Caron et al. 2020)
    biomedclip              the image half of BiomedCLIP; open_clip:ID or open_clip:FOLDER for others
    sscd                    a copy detector (Pizzi et al. 2022); sscd=FILE.onnx

Another package adds a name by an entry point of the group `vesalius.extractors`: see docs/extending.md.
A local path follows an equals sign: `rad-dino=/models/rad-dino`. FID on rad-dino or biomedclip is
what the field calls a medical FID (MFID). ImageNet networks without labels (SwAV) have tracked
expert readers better than medical classifiers (Woodland et al. 2024): use more than one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vesalius.core.manifest import file_sha256
from vesalius.core.memory import keep_freed_memory
from vesalius.core.registry import Registry
from vesalius.errors import VesaliusError
from vesalius.models.networks import backbones, weights
from vesalius.models.networks.backbones import Backbone
from vesalius.models.networks.inception import FEATURES, INPUT_SIZE, Inception
from vesalius.models.networks.resize import View

HUB_IDS = {
    "dinov2": "facebook/dinov2-base",
    "rad-dino": "microsoft/rad-dino",
    "biomedclip": "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
}
_HERE = "vesalius.models.networks.extractors"
# Ours are functions of the name and of the path behind an equals sign, "" for none; those of other
# packages have no arguments.
EXTRACTORS = Registry(
    "extractor",
    {
        "inception": f"{_HERE}:_inception",
        "inception-tf1": f"{_HERE}:_inception",
        "inception-antialias": f"{_HERE}:_inception",
        "efficientnet-lite0": f"{_HERE}:_converted",
        "resnet50": f"{_HERE}:_timm",
        "swav": f"{_HERE}:_swav",
        "dinov2": f"{_HERE}:_transformers",
        "rad-dino": f"{_HERE}:_transformers",
        "biomedclip": f"{_HERE}:_open_clip",
        "sscd": f"{_HERE}:_onnx",
    },
)
NAMES = tuple(EXTRACTORS.own)


@dataclass
class Extractor:
    """A frozen network and the way images are brought to it. Nothing is loaded before it is used."""

    name: str
    view: View
    mean: tuple[float, ...]  # of channels from 0 to 255
    std: tuple[float, ...]
    dims: int  # 0 where only a run can tell
    weights: str  # the first 16 digits of their SHA-256
    load: Callable[[], nn.Module] = field(repr=False)
    _network: Any = field(default=None, repr=False)

    @property
    def identity(self) -> dict[str, str]:
        """All that decides which features an image gets, in words."""
        normalised = f"({self.mean} {self.std})"
        return {"extractor": self.name.partition("=")[0], "weights": self.weights,
                "resize": str(self.view), "normalised": normalised}  # fmt: skip

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> np.ndarray:
        """(B, 3, side, side) float32 from 0 to 255 -> (B, dims) float32.

        The network moves to the device of the images. Raises VesaliusError for what is not finite.
        """
        if self._network is None:
            # channels_last is a third faster on CPUs and the same to seven digits
            self._network = self.load().to(memory_format=torch.channels_last)  # pyright: ignore
            if pixels.device.type == "cpu":
                keep_freed_memory()
        mean, std = (
            torch.tensor(values, device=pixels.device).view(1, 3, 1, 1)
            for values in (self.mean, self.std)
        )
        x = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
        features = self._network.to(pixels.device)(x).float().cpu().numpy()
        if not np.isfinite(features).all():
            raise VesaliusError(f"{self.name.partition('=')[0]} gave NaN or infinity for an image")
        return features


def find_extractor(name: str) -> Extractor:
    """The extractor called `name` (see the top of this file), or NAME=PATH.

    Other packages add names by entry points of the group `vesalius.extractors`: a function without
    arguments that gives an `Extractor`.

    Raises VesaliusError, in one line, where there is none of that name or it cannot be had.
    """
    known, equals, path = name.partition("=")
    if equals and not path:
        raise VesaliusError(f"{name!r} names no path: write NAME=PATH")
    family, colon, _ = known.partition(":")
    families = {"timm": _timm, "hf": _transformers, "open_clip": _open_clip}
    if colon and family in families:
        find = families[family]
    elif known.startswith("inception") and not equals:
        find = _inception
    elif known in EXTRACTORS.own and not known.startswith("inception"):
        find = EXTRACTORS.load(known)
    elif known in EXTRACTORS.names():
        return EXTRACTORS.load(known)()
    else:
        raise VesaliusError(
            f"no extractor is called {known!r}: choose {', '.join(EXTRACTORS.names())}, timm:NAME, "
            "hf:ID or open_clip:ID"
        )
    found = find(known, path)
    return _from_backbone(name, found) if isinstance(found, Backbone) else found


def available(name: str) -> str | None:
    """Why the extractor cannot be had here, in one line; None where it can."""
    try:
        find_extractor(name)
    except VesaliusError as error:
        return str(error)
    return None


def _inception(name: str, _path: str = "") -> Extractor:
    way: Any = name.removeprefix("inception").removeprefix("-") or "bilinear"
    if way not in INCEPTION_SCALES:
        raise VesaliusError(f"no resize is called {way!r}: choose bilinear, tf1 or antialias")
    mean, std = INCEPTION_SCALES[way]
    file = weights.find("inception-2015-12-05")
    hashed = file_sha256(file)[:16]
    view = View(way, INPUT_SIZE)
    return Extractor(name, view, (mean,) * 3, (std,) * 3, FEATURES, hashed, Inception)


# way -> mean and deviation of pixels from 0 to 255, as its library has them
INCEPTION_SCALES = {"bilinear": (127.5, 127.5), "tf1": (128.0, 128.0), "antialias": (128.0, 128.0)}


def _timm(known: str, path: str) -> Backbone:
    return backbones.timm_backbone(known.removeprefix("timm:"), Path(path) if path else None)


def _transformers(known: str, path: str) -> Backbone:
    return backbones.transformers_backbone(path or HUB_IDS.get(known) or known.removeprefix("hf:"))


def _open_clip(known: str, path: str) -> Backbone:
    source = path or HUB_IDS.get(known) or known.removeprefix("open_clip:")
    return backbones.open_clip_backbone(source)


def _converted(known: str, path: str) -> Backbone:
    return backbones.converted_backbone(known)


def _swav(known: str, path: str) -> Backbone:
    return _timm("resnet50", path) if path else backbones.converted_backbone("swav-resnet50")


def _onnx(known: str, path: str) -> Backbone:
    return backbones.onnx_backbone(path or known)


def _from_backbone(name: str, network: Backbone) -> Extractor:
    way = "crop" if network.short else "squash"
    view = View(way, network.side, network.short, network.filter)
    hashes = [file_sha256(file) for file in network.files]
    joined = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    mean = tuple(255 * value for value in network.mean)
    std = tuple(255 * value for value in network.std)
    return Extractor(name, view, mean, std, network.dims, joined[:16], network.load)
