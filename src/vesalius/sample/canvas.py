"""Images to paint into, and how a model sees them: at a scale that it was trained for."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.pixels import BadImage, prepare, show_range, to_range
from vesalius.sample.checks import parse_size
from vesalius.sample.masks import Mask
from vesalius.sample.start import read_bytes

if TYPE_CHECKING:  # torch is imported only once all files have been read
    from vesalius.sample.generate import TextToImage

# An image up to this many times smaller or larger than the model's own size is drawn as it is, so
# that nothing is lost to resizing; beyond that a model draws things of the wrong scale.
BEARABLE = 1.5
_DEEP = np.dtype(np.uint16)


@dataclass(frozen=True, eq=False)
class Canvas:
    """An image to paint into, upright, with the pixels of its file."""

    pixels: np.ndarray  # uint8 (H, W, 3) or (H, W), or uint16 (H, W)
    sha256: str  # of the file

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def bits(self) -> int:
        """8, or 16 of deep grey."""
        return 8 * self.pixels.dtype.itemsize

    def shown(self, pixels: np.ndarray) -> Image.Image:
        """`pixels` of this canvas as a person and the model see them: RGB, deep grey windowed."""
        if pixels.dtype == _DEEP:
            pixels = to_range(pixels, *show_range(self.pixels, "auto"))
        return Image.fromarray(pixels).convert("RGB")

    def taken(self, drawn: Image.Image) -> np.ndarray:
        """`drawn` at this canvas's size, in its grey values: float32, shaped as `pixels`.

        `drawn` is RGB, or grey of 16 bits, which span what is shown of a deep canvas.
        """
        if self.pixels.dtype == _DEEP:
            unit = Image.fromarray(np.asarray(drawn, np.float32) / 65535)
            low, high = show_range(self.pixels, "auto")
            scaled = np.asarray(unit.resize(self.size, Image.Resampling.BICUBIC))
            return np.clip(low + scaled * (high - low), 0, 65535)
        drawn = drawn.resize(self.size, Image.Resampling.BICUBIC)
        drawn = drawn.convert("L") if self.pixels.ndim == 2 else drawn
        return np.asarray(drawn, np.float32)


def read_canvas(path: Path | str) -> Canvas:
    """An image file of any format, 8-bit grey or colour or 16-bit grey as it is.

    Others are read as everywhere in the package: palettes and transparency become RGB.
    Raises VesaliusError where it is no image.
    """
    data = read_bytes(path)
    try:
        prepared = prepare(data, window="full", bits=16)
    except BadImage as error:
        raise VesaliusError(f"{path} cannot be read as an image: {error}") from error
    with Image.open(io.BytesIO(prepared.data)) as image:
        return Canvas(np.array(image), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Frame:
    """How an image is laid out for the model: scaled, then extended at the right and the bottom."""

    scaled: tuple[int, int]  # width and height
    padded: tuple[int, int]

    def lay(self, canvas: Canvas, mask: Mask) -> tuple[Image.Image, np.ndarray]:
        """The RGB image and the mask, bool (H, W), at the padded size.

        A pixel is masked where any that it was made of is; what is added repeats the border.
        """
        image = canvas.shown(canvas.pixels)
        area = Image.fromarray(mask.pixels.astype(np.float32))
        if self.scaled != canvas.size:
            image = image.resize(self.scaled, Image.Resampling.BICUBIC)
            area = area.resize(self.scaled, Image.Resampling.BOX)
        right, below = (p - s for p, s in zip(self.padded, self.scaled, strict=True))
        pixels = np.pad(np.asarray(image), ((0, below), (0, right), (0, 0)), mode="edge")
        masked = np.pad(np.asarray(area) > 0, ((0, below), (0, right)))
        return Image.fromarray(pixels), masked


def frame(size: tuple[int, int], model: "TextToImage") -> Frame:
    """The frame of an image of (width, height) for a model.

    Kept at its scale where its short side is within 1.5 times the model's own, else brought to it.
    """
    generator = model.generator
    own = min(parse_size(generator.settings.get("size", generator.native_size)))
    ratio = own / min(size)
    if 1 / BEARABLE <= ratio <= BEARABLE:
        ratio = 1.0
    step = generator.size_multiple
    width, height = (max(1, round(side * ratio)) for side in size)
    return Frame((width, height), (-(-width // step) * step, -(-height // step) * step))
