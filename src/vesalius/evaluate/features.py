"""Inception features of images: decoded once, resized one named way, pushed through in batches.

FID figures of one model differ by whole points between libraries because each resizes its own way,
so the way has a name here and belongs beside every figure:

- "bilinear": half-pixel bilinear without antialias, [-1, 1] (the default, this project's protocol);
- "tf1": TensorFlow 1's bilinear from the top-left corner, (x - 128) / 128, as torch-fidelity does;
- "antialias": PIL's bicubic on floats, (x - 128) / 128, as clean-fid does (Parmar et al. 2022).
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from vesalius.errors import VesaliusError
from vesalius.io.atomic import atomic_path
from vesalius.models.inception import FEATURES, INPUT_SIZE, Inception

Resize = Literal["bilinear", "tf1", "antialias"]


@torch.inference_mode()
def inception_features(
    images: Iterable[np.ndarray],
    *,
    resize: Resize = "bilinear",
    batch_size: int = 16,
    network: Inception | None = None,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Pooled Inception features of uint8 RGB images (H, W, 3), whose sizes may differ.

    The images are read as they come, one batch at a time, so a generator may make them.
    Returns (N, 2048) float32, all at least 0, in the order given; (0, 2048) for no images.
    Raises VesaliusError for anything but uint8 RGB and when the weights are missing.
    """
    # channels_last is a third faster on CPUs and the same to seven digits
    network = Inception() if network is None else network
    network.to(device=torch.device(device), memory_format=torch.channels_last)  # pyright: ignore
    features = [np.empty((0, FEATURES), np.float32)]
    for batch in batches(images, batch_size):
        x = torch.stack([resized(image, resize) for image in batch])  # (B, 3, 299, 299)
        x = x.to(device, memory_format=torch.channels_last)
        features.append(network(x).float().cpu().numpy())
    return np.concatenate(features)


def batches(items: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Lists of up to `size` items, in order."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def resized(image: np.ndarray, resize: Resize) -> Tensor:
    """One uint8 (H, W, 3) image as the network's float32 input (3, 299, 299), about [-1, 1]."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise VesaliusError(f"images are uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if resize == "antialias":
        planes = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
        size = (INPUT_SIZE, INPUT_SIZE)
        small = [np.asarray(p.resize(size, Image.Resampling.BICUBIC)) for p in planes]
        return (torch.from_numpy(np.stack(small)) - 128) / 128
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()  # (3, H, W), 0 to 255
    if resize == "tf1":
        rows, columns = (tf1_weights(side) for side in pixels.shape[1:])
        return (rows @ pixels @ columns.T - 128) / 128
    if resize != "bilinear":
        raise VesaliusError(f"no resize is called {resize!r}: choose bilinear, tf1 or antialias")
    x = pixels[None] / 127.5 - 1
    size = (INPUT_SIZE, INPUT_SIZE)
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=False)[0]


def tf1_weights(side: int) -> Tensor:
    """(299, side) interpolation matrix of TensorFlow 1: output i samples at i * side / 299."""
    position = torch.arange(INPUT_SIZE) * (side / INPUT_SIZE)
    low = position.floor().long()
    fraction = position - low
    weights = torch.zeros(INPUT_SIZE, side)
    index = torch.arange(INPUT_SIZE)
    weights[index, low] = 1 - fraction
    weights[index, (low + 1).clamp(max=side - 1)] += fraction
    return weights


def write_features(path: Path | str, **arrays: np.ndarray) -> None:
    """Store features and what belongs to them (rows, labels as integers) as safetensors."""
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def read_features(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays that `write_features` stored. Raises VesaliusError if the file is not such."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise VesaliusError(f"no features at {path}: compute them first") from error
    except SafetensorError as error:
        raise VesaliusError(f"{path} is not a safetensors file: {error}") from error
