"""From an image to a network's input, one named way: the name belongs beside every figure.

FID figures of one model differ by whole points between libraries because each resizes its own way.

- "bilinear": half-pixel bilinear without antialias (this project's protocol for Inception);
- "tf1": TensorFlow 1's bilinear from the top-left corner, as torch-fidelity does;
- "antialias": PIL's bicubic on floats, as clean-fid does (Parmar et al. 2022, arXiv:2104.11222);
- "crop": PIL on 8 bits, short side to `short`, then the centre, as ImageNet networks are tested;
- "squash": PIL on 8 bits, to a square whatever the shape was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vesalius.errors import VesaliusError

Way = Literal["bilinear", "tf1", "antialias", "crop", "squash"]
Filter = Literal["bilinear", "bicubic"]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class View:
    """One way to make any image (3, side, side): networks that share it share the work."""

    way: Way
    side: int  # pixels
    short: int = 0  # of "crop": the short side before the centre is cut out; 0 is `side`
    filter: Filter = "bicubic"  # of "crop" and "squash"

    def __str__(self) -> str:
        details = f" {self.filter}" if self.way in ("crop", "squash") else ""
        from_short = f" from {self.short}" if self.way == "crop" and self.short else ""
        return f"{self.way}{details} {self.side}{from_short}"

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """What is done to each image by itself, in any thread.

        uint8 (H, W, 3) -> the same where the rest is done by batches, else (side, side, 3) uint8 or
        float32, 0 to 255. Raises VesaliusError for anything but uint8 RGB.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise VesaliusError(f"images are uint8 (H, W, 3), not {image.dtype} {image.shape}")
        size = (self.side, self.side)
        if self.way == "antialias":
            planes = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
            small = [np.asarray(p.resize(size, Image.Resampling.BICUBIC)) for p in planes]
            return np.stack(small, axis=2)
        if self.way == "squash":
            return np.asarray(Image.fromarray(image).resize(size, _FILTERS[self.filter]))
        if self.way == "crop":
            return self._cropped(Image.fromarray(image))
        return image

    def batch(self, images: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
        """Prepared images -> (B, 3, side, side) float32 on `device`, 0 to 255 (bicubic: about)."""
        if len({image.shape for image in images}) > 1:
            return torch.cat([self.batch([image], device) for image in images])
        pixels = torch.from_numpy(np.stack(images)).to(device)  # bytes travel, not floats
        x = pixels.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        if self.way == "bilinear":
            size = (self.side, self.side)
            return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=False)
        if self.way == "tf1":
            return _tf1(_tf1(x, 2, self.side), 3, self.side)
        return x

    def _cropped(self, image: Image.Image) -> np.ndarray:
        short = self.short or self.side
        scale = short / min(image.size)
        if scale != 1:
            width, height = (max(short, round(side * scale)) for side in image.size)
            image = image.resize((width, height), _FILTERS[self.filter])
        left, top = (image.width - self.side) // 2, (image.height - self.side) // 2
        return np.asarray(image.crop((left, top, left + self.side, top + self.side)))


def _tf1(x: Tensor, axis: int, side: int) -> Tensor:
    """TensorFlow 1's bilinear along one axis: output i is read at i * before / side."""
    before = x.shape[axis]
    position = torch.arange(side, device=x.device) * (before / side)
    low = position.floor().long()
    high = (low + 1).clamp(max=before - 1)  # the last pixel is held
    fraction = (position - low).view([-1 if k == axis else 1 for k in range(x.ndim)])
    below = x.index_select(axis, low)
    return below + (x.index_select(axis, high) - below) * fraction
