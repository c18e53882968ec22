"""Images to paint into, and how a model sees them: at a scale that it was trained for."""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.dicom_kept import Kept, kept_of
from vesalius.images.dicom_pixels import decode, is_bare_dicom, is_dicom
from vesalius.images.pixels import BadImage, Pixels, prepare, show_range, to_range
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
    dicom: bool = False
    modality: str = ""  # of a DICOM file
    window: tuple[float, float] | None = None  # which of the pixels' values a DICOM file shows
    kept: Kept | None = None  # of a DICOM file, in what is made of it
    name: str = ""  # of the file

    @property
    def format(self) -> str:
        """That holds these pixels as they are."""
        return "dicom" if self.dicom else "png16" if self.bits == 16 else "png"

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The values of a deep canvas that are shown black and white."""
        return self.window or show_range(self.pixels, "auto")

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
            pixels = to_range(pixels, *self.limits)
        return Image.fromarray(pixels).convert("RGB")

    def taken(self, drawn: Image.Image) -> np.ndarray:
        """`drawn` at this canvas's size, in its grey values: float32, shaped as `pixels`.

        `drawn` is RGB, or grey of 16 bits, which span what is shown of a deep canvas.
        """
        if self.pixels.dtype == _DEEP:
            unit = Image.fromarray(np.asarray(drawn, np.float32) / 65535)
            low, high = self.limits
            scaled = np.asarray(unit.resize(self.size, Image.Resampling.BICUBIC))
            return np.clip(low + scaled * (high - low), 0, 65535)
        drawn = drawn.resize(self.size, Image.Resampling.BICUBIC)
        drawn = drawn.convert("L") if self.pixels.ndim == 2 else drawn
        return np.asarray(drawn, np.float32)


def read_canvas(path: Path | str) -> Canvas:
    """An image file of any format, 8-bit grey or colour or 16-bit grey as it is.

    Others are read as everywhere in the package: palettes and transparency become RGB. Grey of a
    DICOM file comes over the whole range that its bits can store.
    Raises VesaliusError where it is no image.
    """
    data = read_bytes(path)
    found = Pixels(np.empty(0))
    try:
        if dicom := is_dicom(data) or is_bare_dicom(data):
            found = decode(data, "full", bits=16)
            if found.bits <= 8:
                found = decode(data, "full")
        prepared = prepare(found.array if dicom else data, window="full", bits=16)
        window = _window(data, found.array) if dicom else None
    except BadImage as error:
        raise VesaliusError(f"{path} cannot be read as an image: {error}") from error
    with Image.open(io.BytesIO(prepared.data)) as image:
        sha256, modality = hashlib.sha256(data).hexdigest(), found.attributes.get("modality", "")
        pixels = np.array(image)
    try:
        kept = kept_of(data, pixels) if dicom else None
    except BadImage as error:
        raise VesaliusError(f"{path} cannot be read as an image: {error}") from error
    return Canvas(pixels, sha256, dicom, modality, window, kept, Path(path).name)


def _window(data: bytes, values: np.ndarray) -> tuple[float, float] | None:
    """Which `values` of a DICOM file, decoded in full, its own window shows black and white."""
    if values.dtype != _DEEP:
        return None
    shown = decode(data, "auto", bits=16).array
    between = (shown > 0) & (shown < 65535)
    if len(np.unique(values[between])) < 2:
        return None
    slope, black = np.polyfit(values[between].astype(float), shown[between].astype(float), 1)
    return (float(-black / slope), float((65535 - black) / slope)) if slope > 0 else None


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
