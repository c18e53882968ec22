"""Other people's pretrained measuring networks as tensors under our names: a door for pickles.

They come as TorchScript and pickles, which can run code when they are loaded: `weights.install`
checks each against a known digest first. LPIPS is read by an unpickler that can build arrays and
nothing else, checkpoints of torch by `weights_only`.
"""

import io
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vesalius.core.optional import need
from vesalius.errors import VesaliusError

LPIPS_TRUNK = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
BATCH_NORM_EPS = 1e-3  # TensorFlow's Inception, where PyTorch's default is 1e-5


def inception(data: bytes) -> dict[str, Tensor]:
    """Fold each batch norm (no scale in TensorFlow's) into its convolution, in float64.

    weight' = weight / sqrt(var + eps); bias' = beta - mean / sqrt(var + eps).
    The final classifier is left out: FID reads the pooled features before it.
    """
    state = torch.jit.load(io.BytesIO(data), map_location="cpu").state_dict()
    prefix, tensors = "net.layers.", {}
    for key in state:
        if not key.endswith(".beta"):
            continue
        layer = key.removesuffix(".beta")
        scale = (state[f"{layer}.var"].double() + BATCH_NORM_EPS).rsqrt()
        name = layer.removeprefix(prefix)
        tensors[f"{name}.weight"] = (
            state[f"{layer}.weight"].double() * scale.view(-1, 1, 1, 1)
        ).float()
        tensors[f"{name}.bias"] = (state[key].double() - state[f"{layer}.mean"] * scale).float()
    return tensors


def efficientnet_lite0(data: bytes) -> dict[str, Tensor]:
    """EfficientNet-Lite0 under timm's names (tf_efficientnet_lite0).

    Both list the same layers in the same order; what shapes could not tell, batch norms among
    themselves, the names' last parts do.
    """
    timm: Any = need("timm", "eval", "efficientnet-lite0")
    source = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    target = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    tensors = {}
    for (old, value), (new, empty) in zip(source.items(), target.items(), strict=True):
        same_kind = old.rsplit(".", 1)[-1] == new.rsplit(".", 1)[-1]
        if value.shape != empty.shape or not same_kind:
            raise VesaliusError(f"{old} of the package is not {new} of timm: another timm?")
        tensors[new] = value
    return tensors


def swav(data: bytes) -> dict[str, Tensor]:
    """SwAV's ResNet-50 (Caron et al. 2020) without projection head and prototypes."""
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    heads = ("projection_head.", "prototypes.")
    return {key: value for key, value in state.items() if not key.startswith(heads)}


class ArraysOnly(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; any other name in the pickle is an error."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module.replace("numpy.core", "numpy._core"), name) == (
            "numpy._core.multiarray",
            "_reconstruct",
        ):
            return np._core.multiarray._reconstruct  # pyright: ignore
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise VesaliusError(f"the pickle wants {module}.{name}, which is not an array: refused")


def lpips(data: bytes, network: str) -> dict[str, Tensor]:
    """Flax's kernels (H, W, in, out) to PyTorch's (out, in, H, W), named as vesalius's LPIPS."""
    tree = ArraysOnly(io.BytesIO(data)).load()
    trunk, tensors = tree[LPIPS_TRUNK[network]], {}
    for index, slot in enumerate(convolution_slots(network)):
        layer = trunk[f"Conv_{index}"]
        kernel = np.asarray(layer["kernel"], np.float32).transpose(3, 2, 0, 1)
        tensors[f"stages.{slot}.weight"] = torch.from_numpy(kernel.copy())
        tensors[f"stages.{slot}.bias"] = torch.from_numpy(np.array(layer["bias"], np.float32))
    for index in range(5):
        kernel = np.array(tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"], np.float32)
        tensors[f"linear.{index}"] = torch.from_numpy(kernel.reshape(-1))
    return tensors


def convolution_slots(network: str) -> list[str]:
    """Where each convolution sits in vesalius.models.networks.lpips: 'stage.position', in order."""
    if network == "alex":
        return ["0.0", "1.1", "2.1", "3.0", "4.0"]
    blocks = [2, 2, 3, 3, 3]  # VGG-16's convolutions a block; a pool comes first but in block 0
    return [
        f"{block}.{2 * layer + (block > 0)}"
        for block, depth in enumerate(blocks)
        for layer in range(depth)
    ]
