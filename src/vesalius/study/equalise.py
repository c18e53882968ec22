"""Images of all arms made equal in everything that is not the picture.

Every file is decoded, cut and resized to one size, given one depth and one number of channels, put through
one last JPEG where any source was JPEG, and written by one PNG writer without compression and without
any chunk but IHDR, IDAT and IEND: files of one size have as many bytes, whatever they show.
"""

import io
import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vesalius.errors import VesaliusError
from vesalius.images.pixels import SMALLEST_SIDE, open_rgb
from vesalius.study.protocol import Pixels

_COLOUR = 1.0  # grey levels between channels, on average: less is the noise of a grey JPEG
_BEST = 90  # quality of the last JPEG, or that of the worst source where it is lower
_WORST = 30
_OFF_GRID = 15 / 16
_MTIME = 946_684_800  # of every file: 1 January 2000
_DARK = 12  # grey levels: a line that is darker throughout is border
_MARKER = 0.002  # of the pixels in the corners, pure white and with hard edges


Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Seen:
    """What is in a decoded picture besides the anatomy; shares of the side, and a flag."""

    border: float  # of the dark lines at the four sides, the widest
    marker: bool  # letters burned into a corner


def decide(
    sizes: Sequence[Size], shapes: Sequence[Size], qualities: Sequence[int], asked: str | None
) -> Pixels:
    """The common size, and the quality of the last JPEG where any source was one (`qualities`).

    The shape is that of most of `shapes`, the synthetic images; the size the largest that enlarges none
    of `sizes`, the images of all arms. Where a source was JPEG, or any image must be resized, it is a
    sixteenth smaller: then all are resized, none by a ratio such as 3:4 whose pattern repeats within
    8 pixels, and no arm keeps the grid of the JPEG that it came from.
    """
    quality = max(_WORST, min([_BEST, *qualities])) if qualities else None
    if asked:
        width, height = _parsed(asked)
    else:
        (width, height), _ = Counter(shapes).most_common(1)[0]
        factor = min(1.0, *(min(w / width, h / height) for w, h in sizes))
        factor *= _OFF_GRID if qualities or len({*sizes}) > 1 else 1
        width, height = round(width * factor), round(height * factor)
    return Pixels(width=width, height=height, lossy=bool(qualities), quality=quality)


def _parsed(text: str) -> tuple[int, int]:
    first, _, second = text.lower().partition("x")
    try:
        width, height = int(first), int(second or first)
    except ValueError:
        width = height = 0
    if not SMALLEST_SIDE <= min(width, height) <= max(width, height) <= 4096:
        raise VesaliusError(f"--size {text!r}: give pixels, as in 256 or 384x256")
    return width, height


def picture(data: bytes, *, crop_borders: bool = False) -> Image.Image:
    """The pixels of a file, 8-bit RGB and upright; without its black border where that is asked.

    Raises VesaliusError where it is no image.
    """
    image = open_rgb(data)
    return image.crop(inside(np.asarray(image.convert("L")))) if crop_borders else image


def is_grey(image: Image.Image) -> bool:
    """Whether the channels are equal but for a JPEG's noise."""
    values = np.asarray(image).astype(np.int16)
    return float((values.max(-1) - values.min(-1)).mean()) < _COLOUR


def fit(image: Image.Image, pixels: Pixels) -> Image.Image:
    """The image in the study's size and colour, and through its last JPEG: L or RGB."""
    image = image.convert("L" if pixels.grey else "RGB")
    size = (pixels.width, pixels.height)
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
    if pixels.lossy:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=pixels.quality or _BEST, subsampling="4:4:4")
        image = Image.open(io.BytesIO(stream.getvalue()))
        image.load()
    return image


def encode(image: Image.Image) -> bytes:
    """An L or RGB image as a PNG without compression."""
    stream = io.BytesIO()
    plain = Image.fromarray(np.asarray(image))  # leaves behind whatever it was decoded from
    plain.save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def write_images(folder: Path, images: Iterable[tuple[str, bytes]]) -> None:
    """Write NAME.png for each, in the order of their names, all of one time."""
    folder.mkdir(parents=True)
    for name, data in sorted(images):
        path = folder / f"{name}.png"
        path.write_bytes(data)
        os.utime(path, (_MTIME, _MTIME))
    os.utime(folder, (_MTIME, _MTIME))


def look(image: Image.Image) -> Seen:
    """Black borders and burned-in markers of a picture."""
    grey = np.asarray(image.convert("L")).astype(np.int16)
    left, top, right, bottom = inside(grey)
    width, height = image.size
    border = max(left / width, top / height, 1 - right / width, 1 - bottom / height)
    tall, wide = max(1, height // 5), max(1, width // 5)
    corners = [grey[y, x] for y in (slice(tall), slice(-tall, None))
               for x in (slice(wide), slice(-wide, None))]  # fmt: skip
    hard = [float(((c[:, :-1] > 240) & (np.abs(np.diff(c, axis=1)) > 100)).mean()) for c in corners]
    return Seen(float(border), max(hard) > _MARKER)


def inside(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of (H, W) grey levels without the dark lines at their sides.

    The whole of an image that is dark throughout.
    """
    bright = grey > _DARK
    rows, columns = (np.flatnonzero(bright.mean(axis) > 0.02) for axis in (1, 0))
    if len(rows) < SMALLEST_SIDE or len(columns) < SMALLEST_SIDE:
        return 0, 0, grey.shape[1], grey.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def jpeg_quality(data: bytes) -> int | None:
    """The quality that libjpeg would call it, 1 to 100; None for other files."""
    with Image.open(io.BytesIO(data)) as image:
        tables = getattr(image, "quantization", None)
        if image.format != "JPEG" or not tables:
            return None
        coarse = sum(tables[0])
    return next((quality for quality in range(100, 0, -1) if _coarseness(quality) >= coarse), 1)


@cache
def _coarseness(quality: int) -> int:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "JPEG", quality=quality)
    with Image.open(io.BytesIO(stream.getvalue())) as image:
        return sum(image.quantization[0])  # pyright: ignore[reportAttributeAccessIssue]


def chunks(data: bytes) -> list[str]:
    """The names of a PNG's chunks, in their order; empty for other files."""
    names, place = [], 8
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return []
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        names.append(data[place + 4 : place + 8].decode("latin-1"))
        place += 12 + length
    return names
