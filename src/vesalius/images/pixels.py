"""From the bytes of any image file to pixels that mean the same everywhere.

`prepare` is the way into a pairs table: files that every reader decodes alike (8-bit grey or RGB
JPEG and PNG, upright) are kept as they are, but for texts and other metadata; everything else (16
bits, palettes, CMYK, transparency, EXIF rotation, TIFF) becomes a plain PNG once, here. `open_rgb` is the way out of it: training,
evaluation and the datasheet all read images through it.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vesalius.errors import VesaliusError
from vesalius.images.strip import strip

MOST_PIXELS = 100_000_000  # more is taken for a decompression bomb
SMALLEST_SIDE = 16  # pixels; less is no medical image
THUMB = 32  # side of the grey thumbnail that perceptual hashes are made from

# Pillow would hand others, such as EPS, to a program that runs what is in them.
FORMATS = ["JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM"]
_EXIF_ORIENTATION = 0x0112
_DEEP_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
# What Hounsfield units are shown for which tissue (centre, width).
WINDOW_PRESETS = {
    "lung": (-600, 1500),
    "mediastinum": (40, 400),
    "abdomen": (40, 400),
    "brain": (40, 80),
    "subdural": (75, 215),
    "stroke": (40, 40),
    "bone": (480, 2500),
}


class BadImage(Exception):
    """These bytes are no image that can be used; the message is the reason that users read."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """An image that a reader decoded itself.

    `array` is (H, W) grey or (H, W, 3) RGB; uint8, or uint16 where the full range is already the
    range to show. `bits` is the depth that the source had (12 for most CT), for the record.
    """

    array: np.ndarray
    bits: int = 8
    attributes: dict[str, str] = field(default_factory=dict)  # found while decoding
    notes: tuple[str, ...] = ()  # what was wrong with it, or done to it
    identities: tuple[str, ...] | None = None  # of DICOM: what names the patient; for no table


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as it goes into the table."""

    data: bytes  # an encoded image, 8 or 16 bits
    width: int
    height: int
    mode: str  # L, RGB or I;16 of what is stored
    bits: int  # of the source, a channel
    notes: tuple[str, ...]  # what was changed
    thumb: bytes  # THUMB * THUMB grey values, row by row


def prepare(source: bytes | np.ndarray, window: str = "auto", bits: int = 8) -> Prepared:
    """Check an image whole and make it ready for the table.

    `source` is an image file's content or pixels (uint8 or uint16, grey or RGB). `window` says
    which grey values of a deep image are shown (see `show_range`); `bits` (8 or 16) is the depth
    that a deep image is stored with. Raises BadImage with the reason.
    """
    if isinstance(source, np.ndarray):
        return _store(*_from_array(source, bits), bits=8 * source.dtype.itemsize)
    with _damage_told(), _opened(source) as image:
        deep_kept = (window, bits) == ("full", 16) and image.mode == "I;16"
        kept = _plain(image, source) or (deep_kept and image.format == "PNG")
        if kept and (stripped := strip(source)):
            return _kept(*stripped)
        deep = image.mode in _DEEP_MODES
        depth = {"F": 32, "I": 32}.get(image.mode, 16) if deep else _colour_bits(image, source)
        plain, notes = _plainly(image, window, bits)
        if depth == 16 and not deep:
            notes.append("16-bit colour stored with 8 bits")
    return _store(plain, notes, bits=depth)


def _kept(data: bytes, removed: tuple[str, ...]) -> Prepared:
    """A file that is stored without being decoded and encoded again."""
    notes = tuple(f"{kind} removed" for kind in removed)
    with _opened(data) as image:
        width, height, mode = *image.size, image.mode
        thumb = _thumb(image, draft=True)
    return Prepared(data, width, height, mode, 16 if mode == "I;16" else 8, notes, thumb)


def open_rgb(data: Any) -> Image.Image:
    """Any image file's content as 8-bit RGB, upright; 16-bit grey is shown from 0 to 65,535.

    Raises VesaliusError where it is no image.
    """
    try:
        with _damage_told(), _opened(data) as image:
            window = "full" if image.mode.startswith("I;16") else "auto"
            return _plainly(image, window, 8)[0].convert("RGB")
    except BadImage as error:
        raise VesaliusError(f"an image cannot be read: {error}") from error


def square(image: Image.Image, size: int) -> np.ndarray:
    """RGB uint8 (size, size, 3): short side resized to `size` (bicubic), then the centre cut out."""
    image = image.convert("RGB")
    scale = size / min(image.size)
    if scale != 1:
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def parse_window(window: str) -> tuple[float, float] | None:
    """`LOW..HIGH` or a preset's name as the two values; None for `auto` and `full`.

    Raises VesaliusError for anything else.
    """
    if window in ("auto", "full"):
        return None
    if window in WINDOW_PRESETS:
        centre, width = WINDOW_PRESETS[window]
        return centre - width / 2, centre + width / 2
    low, dots, high = window.partition("..")
    try:
        limits = float(low), float(high)
    except ValueError:
        limits = 0.0, 0.0
    if not dots or not -math.inf < limits[0] < limits[1] < math.inf:
        known = ", ".join(WINDOW_PRESETS)
        raise VesaliusError(
            f"window {window!r} should be auto, full, LOW..HIGH as in -160..240, or one of {known}"
        )
    return limits


def show_range(values: np.ndarray, window: str) -> tuple[float, float]:
    """The lowest and highest of the grey `values` that are told apart.

    `auto`: the 0.1 and 99.9 percentiles, so that 12 bits in a 16-bit file are not shown as black
    and one hot pixel does not dim the rest; `full`: the whole range of the integer type, of floats
    from lowest to highest; else as `parse_window` says.
    """
    if limits := parse_window(window):
        return limits
    if window == "full" and values.dtype.kind in "iu":
        limit = np.iinfo(values.dtype)
        return float(limit.min), float(limit.max)
    if window == "full":
        return float(values.min()), float(values.max())
    low, high = np.percentile(values, (0.1, 99.9))
    return float(low), float(high)


def to_range(values: np.ndarray, low: float, high: float, bits: int = 8) -> np.ndarray:
    """Grey values with `low` at 0 and `high` at the top of `bits`; uint8 or uint16, same shape."""
    if values.dtype in (np.int16, np.uint16) and values.size > 2**16:  # each value once
        limit = np.iinfo(values.dtype)
        every = np.arange(limit.min, limit.max + 1)
        return to_range(every, low, high, bits)[values.astype(np.int32) - limit.min]
    top = 2**bits - 1
    if high > low:
        scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    else:  # a threshold: PS3.3 C.11.2.1.2.1 with a width of 1
        scaled = (values > low).astype(np.float64)
    return np.rint(scaled * top).astype(np.uint8 if bits == 8 else np.uint16)


def is_number(values: np.ndarray) -> np.ndarray:
    """Where values are numbers: NaN and infinity stand for no measurement.

    Raises BadImage where there is none.
    """
    if values.dtype.kind != "f":
        return np.ones(values.shape, bool)
    known = np.isfinite(values)
    if not known.any():
        raise BadImage("no pixel is a number")
    return known


def _opened(data: Any) -> Image.Image:
    """The image, its header checked, its pixels not yet read."""
    if not len(data):
        raise BadImage("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage("not an image file") from None
    except Image.DecompressionBombError:
        raise BadImage(f"over {MOST_PIXELS // 10**6} M pixels") from None
    if image.width * image.height > MOST_PIXELS:
        raise BadImage(f"{image.width} x {image.height}: over {MOST_PIXELS // 10**6} M pixels")
    if min(image.size) < SMALLEST_SIDE:
        raise BadImage(f"{image.width} x {image.height} pixels: too small")
    # phones put a preview behind the photograph (MPO): the first picture is the one that is meant
    if (frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
        raise BadImage(f"animated or of several pages ({frames}): which one is meant?")
    return image


def _plain(image: Image.Image, data: bytes) -> bool:
    if image.mode not in ("L", "RGB") or image.format not in ("JPEG", "PNG"):
        return False
    if image.format == "PNG" and (data[24] > 8 or "transparency" in image.info):
        return False
    return not _turned(image)


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a deep TIFF counts from white (tag 262); Pillow turns the others around itself."""
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and image.mode in _DEEP_MODES and tags.get(262) == 0


def _colour_bits(image: Image.Image, data: bytes) -> int:
    """Bits a channel of colour, or of grey with transparency, of which Pillow keeps 8."""
    if image.format == "PNG":
        return max(8, data[24])
    stored = getattr(image, "tag_v2", {}).get(258) or (8,)
    return 16 if max(np.atleast_1d(stored)) > 8 else 8


def _turned(image: Image.Image) -> bool:
    return image.getexif().get(_EXIF_ORIENTATION) in range(2, 9)


def _plainly(image: Image.Image, window: str, bits: int) -> tuple[Image.Image, list[str]]:
    """The image as upright L, RGB or I;16, and what had to be done to it."""
    notes = []
    image.load()
    if _turned(image):
        image = ImageOps.exif_transpose(image)
        notes.append("turned upright by its EXIF tag")
    if image.mode in _DEEP_MODES:
        values = np.asarray(image)
        low, high = show_range(values[known := is_number(values)], window)
        if not known.all():
            notes.append("pixels that are not numbers shown black")
        notes.append("deep grey values windowed")
        shown = to_range(np.where(known, values, low), low, high, bits)
        if _white_is_zero(image):
            shown = np.where(known, np.iinfo(shown.dtype).max - shown, 0).astype(shown.dtype)
        return Image.fromarray(shown), notes
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            notes.append("transparency laid on black")
        flat = Image.new("RGBA", rgba.size, "black")
        flat.alpha_composite(rgba)
        return flat.convert("L" if image.mode in ("LA", "La") else "RGB"), notes
    if image.mode in ("L", "RGB"):
        return image, notes
    if image.mode == "1":
        return image.convert("L"), [*notes, "one bit a pixel"]
    return image.convert("RGB"), [*notes, f"{image.mode} made RGB"]


def _from_array(array: np.ndarray, bits: int) -> tuple[Image.Image, list[str]]:
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or not array.size:
        raise BadImage(f"pixels of type {array.dtype} and shape {array.shape}")
    if min(array.shape[:2]) < SMALLEST_SIDE:
        raise BadImage(f"{array.shape[1]} x {array.shape[0]} pixels: too small")
    if array.dtype == np.uint16 and (bits == 8 or array.ndim == 3):  # PNG in Pillow has no RGB;16
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array)), []


def _store(image: Image.Image, notes: list[str], bits: int) -> Prepared:
    stream = io.BytesIO()
    image.save(
        stream, "PNG", compress_level=3, icc_profile=None
    )  # four times faster than 6, a tenth larger
    thumb = _thumb(image, draft=False)
    return Prepared(stream.getvalue(), *image.size, image.mode, bits, tuple(notes), thumb)


def _thumb(image: Image.Image, *, draft: bool) -> bytes:
    if draft:  # JPEG at an eighth or so of its size: all of the data is read, most maths saved
        image.draft("L", (2 * THUMB, 2 * THUMB))
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image.convert("L").resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()


@contextmanager
def _damage_told() -> Iterator[None]:
    """Turn whatever Pillow raises on damaged content, which is anything, into BadImage."""
    try:
        yield
    except (BadImage, VesaliusError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise BadImage(f"damaged: {reason}") from error
