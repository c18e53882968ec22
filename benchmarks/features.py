"""Inception's features of any images that a benchmark makes, and files that keep them."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError
from vesalius.models.networks.extractors import INCEPTION_SCALES
from vesalius.models.networks.inception import FEATURES, INPUT_SIZE, Inception
from vesalius.models.networks.resize import View

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
    stream = iter(images)
    while batch := list(islice(stream, batch_size)):
        x = torch.stack([resized(image, resize) for image in batch])  # (B, 3, 299, 299)
        x = x.to(device, memory_format=torch.channels_last)
        features.append(network(x).float().cpu().numpy())
    return np.concatenate(features)


def resized(image: np.ndarray, resize: Resize) -> Tensor:
    """One uint8 (H, W, 3) image as Inception's float32 input (3, 299, 299), about [-1, 1]."""
    if resize not in INCEPTION_SCALES:
        raise VesaliusError(f"no resize is called {resize!r}: choose bilinear, tf1 or antialias")
    view = View(resize, INPUT_SIZE)
    mean, std = INCEPTION_SCALES[resize]
    return (view.batch([view.prepare(image)])[0] - mean) / std


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
