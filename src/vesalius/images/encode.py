"""Pixels to the bytes of an image file that says inside that it is synthetic, and what made it.

Where it says so: PNG, one text chunk an item; JPEG, in words in EXIF's `ImageDescription` and as JSON
in its comment; DICOM, in tags and as JSON in `ImageComments` (see `io.dicom_out`). No clock and no
random number is asked: the same pixels and provenance give the same bytes.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from vesalius.errors import VesaliusError

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "png16": ".png", "dicom": ".dcm"}
FORMATS = tuple(SUFFIXES)

_QUALITY = 95
_MOST_COMMENT = 65_000  # bytes; a segment of a JPEG holds 64 KB with its head
_DICM = slice(128, 132)  # where a DICOM file says so


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
        from vesalius.images.dicom_out import need_pydicom

        need_pydicom()
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
) -> bytes:
    """`pixels` as the content of an image file that carries its `provenance`.

    `pixels` are uint8 (H, W, 3) or (H, W), or uint16 (H, W): `png` and `jpeg` (quality 95, chroma at
    full size) take 8 bits, `png16` 16 and `dicom` either. `provenance` is what JSON can hold.
    `study` is what the images of one set share and `number` the place in it, counted from 1: DICOM
    alone has tags for them.

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
        from vesalius.images.dicom_out import encode_dicom

        return encode_dicom(pixels, provenance, study=study, number=number)
    if bits != (16 if format == "png16" else 8):
        raise VesaliusError(
            f"{format} does not hold {bits} bits: choose png16 or dicom for 16, png for 8"
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _jpeg(image, provenance) if format == "jpeg" else _png(image, provenance)


def statement(provenance: Mapping[str, Any]) -> str:
    """In a few words that an image is synthetic, and whether it can be of somebody all the same."""
    if "strength" in provenance:  # of the change to an image, which may be a patient's
        return "Synthetic image, drawn from another image"
    return "Synthetic image, not of any patient"


def read_provenance(source: Path | str | bytes) -> dict[str, str]:
    """What a PNG, JPEG or DICOM file, or its content, says of its making; empty where it says none.

    All values come as text, as PNG holds them: `true`, `2.5`.
    Raises VesaliusError for other files, and for DICOM where pydicom is missing.
    """
    name = "this content" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        if content[_DICM] == b"DICM":
            from vesalius.images.dicom_out import read_comments

            return _from_json(read_comments(content))
        # no other formats: Pillow would hand some to a program that runs what is in them
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            image.load()  # chunks may also follow the pixels
            if isinstance(image, PngImageFile):
                return dict(image.text)
            return _from_json(image.info.get("comment", b""))
    except VesaliusError:
        raise
    except Exception as error:  # damaged files raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VesaliusError(f"{name} cannot be read as an image: {reason}") from error


def _png(image: Image.Image, provenance: Mapping[str, Any]) -> bytes:
    """Text chunks are UTF-8."""
    chunks = PngInfo()
    for key, value in provenance.items():
        chunks.add_itxt(key, _as_text(value))
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


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_json(text: str | bytes) -> dict[str, str]:
    try:
        values = json.loads(text)
    except ValueError:  # somebody else's comment
        return {}
    return {k: _as_text(v) for k, v in values.items()} if isinstance(values, dict) else {}
