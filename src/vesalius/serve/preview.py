"""What an image will look like, from latents alone: a few multiplications instead of the decoder."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vesalius.sample.autoencoder import encode

_SIDE = 256  # pixels of the picture that the map is found by
_RIDGE = 1e-3


@dataclass(frozen=True)
class Preview:
    """An affine map from a cell of latents to the mean colour of its pixels, found for a model."""

    weight: Tensor  # (C + 1, 3), the last row the bias
    deviation: float  # of latents without noise

    def pixels(self, latents: Tensor) -> np.ndarray:
        """uint8 (N, h, w, 3) of latents (N, C, h, w), a pixel a cell.

        Samplers that let noise add up give larger latents: those are scaled back first.
        """
        latents = latents.float().cpu()
        spread = latents.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        latents = latents * (self.deviation / spread).clamp(max=1)
        colours = latents.permute(0, 2, 3, 1) @ self.weight[:-1] + self.weight[-1]
        return colours.clamp(0, 255).round().to(torch.uint8).numpy()

    def pngs(self, latents: Tensor) -> list[str]:
        """Base64 of a PNG for each image."""
        return [_png(pixels) for pixels in self.pixels(latents)]


def _png(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode()


@torch.inference_mode()
def find_preview(vae: Any) -> Preview:
    """The map for an autoencoder: least squares over the cells of a picture of many colours."""
    picture = _many_colours()
    latents = encode(vae, torch.from_numpy(picture)[None]).cpu()[0]  # (C, h, w)
    channels, height, width = latents.shape
    blocks = picture.reshape(height, _SIDE // height, width, _SIDE // width, 3)
    colours = torch.from_numpy(blocks.mean(axis=(1, 3)).reshape(-1, 3)).float()
    cells = latents.permute(1, 2, 0).reshape(-1, channels)
    inputs = torch.cat([cells, torch.ones(len(cells), 1)], dim=1)
    square = inputs.T @ inputs + _RIDGE * len(cells) * torch.eye(channels + 1)
    return Preview(torch.linalg.solve(square, inputs.T @ colours), float(latents.std()))


def _many_colours() -> np.ndarray:
    """uint8 (256, 256, 3): smooth and less smooth random colours and greys, always the same."""
    rng = np.random.default_rng(0)
    total = np.zeros((_SIDE, _SIDE, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        greys = cells if cells == 64 else cells // 2
        coarse[:greys] = coarse[:greys].mean(axis=2, keepdims=True)
        fine = Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        total += np.asarray(fine, np.float32) - 127.5
    return (127.5 + total).clip(0, 255).astype(np.uint8)
