"""Pixels to the bytes of an image file that says inside that it is synthetic, and what made it.

Where it says so: PNG, one text chunk an item; JPEG, in words in EXIF's `ImageDescription` and as JSON
in its comment; DICOM, in tags and as JSON in `ImageComments` (see `dicom_out`). No clock and no
random number is asked: the same pixels and provenance give the same bytes.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from vesalius.core.optional import need
from vesalius.errors import VesaliusError
from vesalius.images.dicom_kept import Kept
from vesalius.images.dicom_out import encode_dicom
from vesalius.images.provenance import as_text, statement

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "png16": ".png", "dicom": ".dcm"}
FORMATS = tuple(SUFFIXES)

_QUALITY = 95
_MOST_COMMENT = 65_000  # bytes; a segment of a JPEG holds 64 KB with its head


def suffix(format: str) -> str:
    """The file name ending of a format, with its dot. Raises VesaliusError for an unknown one."""
    if format not in SUFFIXES:
        raise VesaliusError(f"format {format!r} is none of {', '.join(FORMATS)}")
    return SUFFIXES[format]


def choose_format(format: str | None, bits: int | None, own_bits: int = 8) -> tuple[str, int]:
    """The format and depth to write, from what was asked for and what a model has by itself.

    Nothing asked is `png`, or `png16` of a model whose own depth is 16; `dicom` takes either depth.
    Raises VesaliusError for what does not go together, and for `dicom` where pydicom is missing.
    """
    if bits not in (None, 8, 16):
        raise VesaliusError(f"bits is {bits}: 8 or 16")
    depth = bits or own_bits
    if format is None:
        format = "png16" if depth == 16 else "png"
    suffix(format)
    if format == "dicom":
        need("pydicom", "dicom", "DICOM")
        return format, 16 if depth == 16 else 8
    only = 16 if format == "png16" else 8
    if bits not in (None, only):
        raise VesaliusError(f"{format} has {only} bits: choose png16 or dicom for 16, png for 8")
    return format, only


def encode_image(
    pixels: np.ndarray,
    provenance: Mapping[str, Any],
    format: str = "png",
    *,
    study: str = "",
    number: int | None = None,
    window: tuple[float, float] | None = None,
    kept: Kept | None = None,
) -> bytes:
    """`pixels` as the content of an image file that carries its `provenance`.

    `pixels` are uint8 (H, W, 3) or (H, W), or uint16 (H, W): `png` and `jpeg` (quality 95, chroma at
    full size) take 8 bits, `png16` 16 and `dicom` either. `provenance` is what JSON can hold.
    `study` is what the images of one set share, `number` the place in it, counted from 1, and
    `window` the values that are shown black and white, and `kept` what the file of an edited image
    keeps: DICOM alone has tags for them.

    Raises VesaliusError for an unknown format, pixels that it cannot hold, provenance too long for
    it, and for `dicom` where pydicom is missing.
    """
    suffix(format)
    bits = 8 * pixels.dtype.itemsize
    grey = pixels.ndim == 2
    if pixels.dtype not in (np.uint8, np.uint16) or not (
        grey or (pixels.ndim == 3 and pixels.shape[2] == 3 and bits == 8)
    ):
        raise VesaliusError(
            f"pixels of type {pixels.dtype} and shape {pixels.shape} cannot be written: "
            "uint8 (H, W, 3) or (H, W), or uint16 (H, W)"
        )
    if format == "dicom":
        about: dict[str, Any] = {"study": study, "number": number, "window": window, "kept": kept}
        return encode_dicom(pixels, provenance, **about)
    if bits != (16 if format == "png16" else 8):
        raise VesaliusError(
            f"{format} does not hold {bits} bits: choose png16 or dicom for 16, png for 8"
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _jpeg(image, provenance) if format == "jpeg" else _png(image, provenance)


def _png(image: Image.Image, provenance: Mapping[str, Any]) -> bytes:
    """Text chunks are UTF-8."""
    chunks = PngInfo()
    for key, value in provenance.items():
        chunks.add_itxt(key, as_text(value))
    stream = io.BytesIO()
    image.save(stream, format="PNG", pnginfo=chunks)
    return stream.getvalue()


def _jpeg(image: Image.Image, provenance: Mapping[str, Any]) -> bytes:
    comment = json.dumps(provenance).encode()  # escaped, and so in ASCII
    if len(comment) > _MOST_COMMENT:
        raise VesaliusError(
            f"the provenance takes {len(comment):,} bytes, and JPEG holds {_MOST_COMMENT:,}: "
            "choose png"
        )
    exif = Image.Exif()
    words = f"{statement(provenance)}: {provenance.get('prompt', '')}"
    exif[ExifTags.Base.ImageDescription] = words.encode()  # UTF-8, which is what viewers expect
    exif[ExifTags.Base.Software] = f"vesalius {provenance.get('version', '')}".strip()
    stream = io.BytesIO()
    image.save(
        stream, "JPEG", quality=_QUALITY, subsampling="4:4:4", exif=exif.tobytes(), comment=comment
    )
    return stream.getvalue()
