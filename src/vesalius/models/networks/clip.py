"""A CLIP: images and texts as vectors of one space.

It is given by hub id or folder: in transformers' layout (CLIP, SigLIP) or in open_clip's, as
BiomedCLIP is published.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.optional import need
from vesalius.errors import VesaliusError
from vesalius.models.networks.backbones import cached
from vesalius.models.networks.loading import LOCAL, WEIGHTS, check_complete, loading

# what open_clip itself prefers to any pickle that may lie beside them
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")


class Clip(Protocol):
    """Images and texts as unit vectors of one space."""

    name: str

    def images(self, images: Sequence[np.ndarray]) -> Tensor:
        """uint8 (H, W, 3) images to unit vectors (B, D), float32 on the CPU."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts to unit vectors (B, D), float32 on the CPU; what is too long is cut."""
        ...


def load_clip(source: str, device: str = "cpu") -> Clip:
    """A CLIP by hub id, which must be in the cache, or folder.

    Raises VesaliusError when it is not to be had, has its weights as pickles only, or is no CLIP.
    """
    folder = cached(source, ())
    if (folder / "open_clip_config.json").is_file():
        return OpenClip(source, folder, device)
    return TransformersClip(source, folder, device)


class TransformersClip:
    """Any model of transformers that has features of images and of texts: CLIP, SigLIP, ..."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        self.name, self.device = name, device
        with loading(f"CLIP {name!r}"):
            model, report = AutoModel.from_pretrained(folder, **WEIGHTS)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **LOCAL)
            self.processor: Any = AutoImageProcessor.from_pretrained(folder, **LOCAL)
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise VesaliusError(f"{name!r} is a {type(model).__name__}, which is no CLIP")
        check_complete(f"CLIP {name!r}", report)
        self.model: Any = model.to(device).eval()
        text: Any = getattr(model.config, "text_config", model.config)
        self.window = int(text.max_position_embeddings)

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> Tensor:
        """As `Clip`."""
        pictures = [Image.fromarray(image) for image in images]
        inputs = self.processor(images=pictures, return_tensors="pt").to(self.device)
        return _unit(self.model.get_image_features(**inputs))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """As `Clip`."""
        # to the full window, as SigLIP was trained; to a CLIP the padding makes no difference
        inputs = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self.window,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        return _unit(self.model.get_text_features(**inputs))


class OpenClip:
    """A model in open_clip's layout, such as BiomedCLIP."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        open_clip = need("open_clip", "clip")
        self.name, self.device = name, device
        if not any((folder / weights).is_file() for weights in OPEN_CLIP_WEIGHTS):
            raise VesaliusError(
                f"CLIP {name!r} has no {OPEN_CLIP_WEIGHTS[0]}: convert its weights; pickles are "
                "refused, because loading one can run any code"
            )
        where = f"local-dir:{folder}"
        with loading(f"CLIP {name!r}"):
            model, preprocess = open_clip.create_model_from_pretrained(where, device=device)
            self.tokenizer: Any = open_clip.get_tokenizer(where)
        self.model, self.preprocess = model.eval(), preprocess

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> Tensor:
        """As `Clip`."""
        pixels = [self.preprocess(Image.fromarray(image)) for image in images]
        return _unit(self.model.encode_image(torch.stack(pixels).to(self.device)))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """As `Clip`."""
        return _unit(self.model.encode_text(self.tokenizer(list(texts)).to(self.device)))


def _unit(features: Any) -> Tensor:
    """Unit vectors (B, D) of features, or of an output that pools them."""
    features = getattr(features, "pooler_output", features)
    return F.normalize(features.float(), dim=-1).cpu()
