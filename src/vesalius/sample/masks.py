"""Masks of what is to be drawn anew: files and ellipses."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.sample.checks import check_feather
from vesalius.sample.start import read_bytes

WHITE = 128  # a mask's pixel is white from here on: JPEG makes neither 0 nor 255


@dataclass(frozen=True)
class Ellipse:
    """Centre and radii as fractions of the image's width and height, so that it fits any size.

    `angle` turns it clockwise, in degrees, its radii keeping their lengths in pixels.
    """

    x: float
    y: float
    rx: float
    ry: float
    angle: float = 0.0

    def __str__(self) -> str:
        numbers = (self.x, self.y, self.rx, self.ry, *([self.angle] if self.angle else []))
        return ",".join(f"{number:.6g}" for number in numbers)


@dataclass(frozen=True, eq=False)
class Mask:
    """Where an image is drawn anew; `origin` goes into its provenance."""

    pixels: np.ndarray  # bool (H, W)
    origin: Mapping[str, Any] = field(default_factory=dict)


def parse_ellipse(text: str) -> Ellipse:
    """`CX,CY,RX,RY` or `CX,CY,RX,RY,ANGLE`, such as `0.5,0.4,0.1,0.2,30`.

    Raises VesaliusError for anything else, pixels among it.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 5) or not all(math.isfinite(number) for number in numbers):
        raise VesaliusError(
            f"ellipse {text!r} is not CX,CY,RX,RY[,ANGLE], such as 0.5,0.4,0.1,0.2,30"
        )
    ellipse = Ellipse(*numbers)
    inside = 0 <= ellipse.x <= 1 and 0 <= ellipse.y <= 1
    if not (inside and 0 < ellipse.rx <= 1 and 0 < ellipse.ry <= 1):
        raise VesaliusError(
            f"ellipse {text!r}: give centre and radii as fractions of the image's width and "
            "height, such as 0.5,0.4,0.1,0.2"
        )
    return ellipse


def draw_ellipse(ellipse: Ellipse, size: tuple[int, int]) -> np.ndarray:
    """The pixels, bool (H, W), of an image of (width, height) whose centres lie in `ellipse`."""
    width, height = size
    x = np.arange(width)[None] + 0.5 - ellipse.x * width  # (1, W)
    y = np.arange(height)[:, None] + 0.5 - ellipse.y * height  # (H, 1)
    turn = math.radians(ellipse.angle)
    along = x * math.cos(turn) + y * math.sin(turn)
    across = y * math.cos(turn) - x * math.sin(turn)
    return (along / (ellipse.rx * width)) ** 2 + (across / (ellipse.ry * height)) ** 2 <= 1


def make_mask(
    size: tuple[int, int], file: Path | str | None = None, ellipses: Sequence[Ellipse] = ()
) -> Mask:
    """The mask for an image of (width, height): what is white in `file`, and all `ellipses`.

    Raises VesaliusError for a file of another size, one that is no image, and for a mask of nothing.
    """
    origin: dict[str, Any] = {}
    pixels = np.zeros(size[::-1], bool)
    brightest = 0
    if file is not None:
        data = read_bytes(file)
        try:
            picture = open_rgb(data)
        except VesaliusError as error:
            raise VesaliusError(f"the mask {file} cannot be read: {error}") from error
        if picture.size != size:
            raise VesaliusError(
                f"the mask {file} is {picture.width}x{picture.height} and the image "
                f"{size[0]}x{size[1]}: make them one size"
            )
        levels = np.asarray(picture).max(axis=2)
        brightest = int(levels.max())
        pixels |= levels >= WHITE
        origin["mask"] = hashlib.sha256(data).hexdigest()
    for ellipse in ellipses:
        pixels |= draw_ellipse(ellipse, size)
    if ellipses:
        origin["ellipses"] = "; ".join(map(str, ellipses))
    if not origin:
        raise VesaliusError("nothing says what to draw anew: give --mask or --ellipse")
    if not pixels.any():
        raise VesaliusError(
            "the mask covers no pixel: make its ellipses larger"
            if file is None
            else f"the mask {file} is black (its brightest pixel is {brightest} of 255): make white "
            "what is to be drawn anew"
        )
    return Mask(pixels, origin)


def feathered(mask: np.ndarray, feather: int) -> np.ndarray:
    """How much of each pixel is new, float32 (H, W): 0 outside of `mask`, bool (H, W).

    Inside it rises from the edge to 1 over `feather` pixels; 0 is a hard edge. The image's own
    border is no edge.
    """
    check_feather(feather)
    left = Image.fromarray(mask.astype(np.uint8))
    total = mask.astype(np.float32)
    for _ in range(feather):  # each time the outermost pixels go
        left = left.filter(ImageFilter.MinFilter(3))
        total += np.asarray(left)
    return total / (feather + 1)
