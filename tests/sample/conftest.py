"""One small model of each kind, and images to start from."""

import numpy as np
import pytest
import torch
from PIL import Image

from vesalius.models.generator import load_generator
from vesalius.models.uvit import UViT
from vesalius.sample.generate import TextToImage


@pytest.fixture(scope="session")
def flow(tiny_flow) -> TextToImage:
    """The model `tiny_flow`."""
    return TextToImage(load_generator(tiny_flow, "cpu", "float32"))


@pytest.fixture(scope="session", params=["U-Net", "flow", "U-ViT"])
def each_kind(request, tiny_sd, tiny_flow) -> TextToImage:
    """A U-Net that predicts noise, one that predicts a flow, and a U-ViT; 32 px, 4 steps."""
    folder = tiny_flow if request.param == "flow" else tiny_sd
    generator = load_generator(folder, "cpu", "float32")
    generator.settings["steps"] = 4
    if request.param == "U-ViT":
        torch.manual_seed(0)
        network = UViT(
            sample_size=4, cross_attention_dim=8, tokens=16, width=16, layers=5, heads=2
        )  # fmt: skip
        generator.unet = network.eval()
    return TextToImage(generator)


@pytest.fixture(scope="session")
def texture():
    """Pixels (height, width, ...) to keep: another value in nearly every one."""

    def pixels(height, width, *channels, dtype=np.uint8):
        top = np.iinfo(dtype).max
        return np.random.default_rng(0).integers(0, top, (height, width, *channels), dtype)

    return pixels


@pytest.fixture
def saved(tmp_path):
    """Pixels as a PNG of a name: its path."""

    def save(name, pixels):
        path = tmp_path / name
        Image.fromarray(pixels).save(path)
        return path

    return save
