"""Painting into images: what a mask covers is drawn anew, every other pixel stays to the bit.

The model works on the whole image, at a scale that it was trained for. What it draws is brought to
the image's own size and depth, and only the pixels under the mask are taken from it.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.pixels import BadImage, prepare, show_range, to_range
from vesalius.sample.checks import parse_size
from vesalius.sample.masks import FEATHER, Mask, feathered
from vesalius.sample.start import Start, read_bytes

if TYPE_CHECKING:  # torch is imported only once all files have been read
    from vesalius.sample.draw import Request
    from vesalius.sample.generate import Progress, Sample, TextToImage

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


def inpaint(
    model: "TextToImage",
    canvases: Sequence[Canvas],
    masks: Sequence[Mask],
    prompt: str,
    *,
    n: int = 1,
    seed: int = 0,
    strength: float = 1.0,
    feather: int = FEATHER,
    batch_size: int | None = None,
    on_progress: "Progress | None" = None,
    **settings: Any,
) -> "Iterator[Sample]":
    """Yield `n` samples of each canvas, under the mask at its place in `masks`, as `prompt` says.

    Sample k of all is drawn from seed + k. Its image has the canvas's size, channels and depth, and
    its pixels wherever the mask is false; `feather` blends over so many pixels within the mask.
    With a `strength` below 1 what was there shows through. `settings` are those of
    `TextToImage.request` but for the size. Raises VesaliusError at once for what cannot be made.
    """
    jobs: list[_Job] = []
    for canvas, mask in zip(canvases, masks, strict=True):
        share = feathered(mask.pixels, feather)
        layout = frame(canvas.size, model)
        picture, area = layout.lay(canvas, mask)
        origin = {
            "start_image": canvas.sha256,
            **mask.origin,
            "strength": strength,
            "feather": feather,
        }
        start = Start(picture, strength, area, origin)
        for _ in range(n):
            number = seed + len(jobs)
            request = model.request(prompt, number, size=layout.padded, start=start, **settings)
            jobs.append(_Job(canvas, share, layout, request))
    return _painted(model, jobs, batch_size, on_progress)


@dataclass(frozen=True)
class _Job:
    canvas: Canvas
    share: np.ndarray  # (H, W), how much of each pixel is new
    layout: Frame
    request: "Request"


def _painted(
    model: "TextToImage",
    jobs: list[_Job],
    batch_size: int | None,
    on_progress: "Progress | None",
) -> "Iterator[Sample]":
    done = 0
    for bits, alike in groupby(jobs, key=lambda job: job.canvas.bits):
        several = list(alike)

        def report(images: float, _: int, before: int = done) -> None:
            if on_progress:
                on_progress(before + images, len(jobs))

        drawn = model.draw([job.request for job in several], batch_size, report, bits)
        for job, sample in zip(several, drawn, strict=True):
            pixels = _put(job, sample.image)
            yield replace(sample, index=done, image=Image.fromarray(pixels))
            done += 1


def _put(job: _Job, drawn: Image.Image) -> np.ndarray:
    """The canvas's pixels, those under the mask taken from `drawn`, which fills the frame."""
    pixels, mask = job.canvas.pixels.copy(), job.share > 0
    new = job.canvas.taken(drawn.crop((0, 0, *job.layout.scaled)))[mask]  # (M,) or (M, 3)
    share = job.share[mask].reshape(-1, *[1] * (new.ndim - 1))
    pixels[mask] = np.rint(share * new + (1 - share) * pixels[mask]).astype(pixels.dtype)
    return pixels
