"""The one door for other people's .pt and .bin adapters. Nothing else in the package reads pickle.

`torch.load(weights_only=True)` rebuilds tensors and plain containers and refuses everything else,
so no code of the file runs. What comes in here goes out as safetensors.
"""

from pathlib import Path

import torch

from vesalius.core.stopping import raise_if_asked
from vesalius.errors import VesaliusError

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


def read_legacy(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors by name, and what the file says of itself, of an embedding or a LoRA saved by torch.

    A web UI's embedding, {"string_to_param": {"*": vectors}, "name": token}, becomes `emb_params`.
    Raises VesaliusError for a file that is not whole, or that holds more than tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the file is anybody's: torch raises a dozen types for a bad one
        raise_if_asked(error)
        raise VesaliusError(
            f"{path} cannot be read without running code from it, or is not whole: ask its maker "
            "for safetensors"
        ) from error
    about = {}
    vectors = content.get("string_to_param") if isinstance(content, dict) else None
    if isinstance(vectors, dict) and len(vectors) == 1:
        if isinstance(name := content.get("name"), str):
            about["token"] = name
        content = {"emb_params": next(iter(vectors.values()))}
    if not isinstance(content, dict) or not content:
        raise VesaliusError(f"{path} holds no adapter: tensors by name are expected")
    odd = [key for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise VesaliusError(f"{path} is not an adapter: its entry {odd[0]!r} is not a tensor")
    return {str(key): value.detach() for key, value in content.items()}, about
