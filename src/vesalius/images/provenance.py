"""What an image file says inside about its making: that it is synthetic, and what made it."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from vesalius.errors import VesaliusError
from vesalius.images.dicom_header import image_comments
from vesalius.images.image_set import ImageSet

_DICM = slice(128, 132)  # where a DICOM file says so


def statement(provenance: Mapping[str, Any]) -> str:
    """In a few words that an image is synthetic, and whether another image is behind it.

    It does not say that the image shows nobody: a generator may have memorised a patient.
    """
    if "strength" in provenance:  # of the change to an image, which may be a patient's
        return "Synthetic image, drawn from another image"
    return "Synthetic image, not for diagnosis"


def read_provenance(source: Path | str | bytes) -> dict[str, str]:
    """What a PNG, JPEG or DICOM file, or its content, says of its making; empty where it says none.

    All values come as text, as PNG holds them: `true`, `2.5`.
    Raises VesaliusError for other files, and for DICOM where pydicom is missing.
    """
    name = "this content" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        if content[_DICM] == b"DICM":
            return _from_json(image_comments(content))
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


def count_synthetic(images: ImageSet) -> int:
    """How many images say inside that they are synthetic; those that cannot be read do not count."""
    found = 0
    for index in range(len(images)):
        try:
            content = images.encoded(index)
            # looked for before it is decoded: almost no real file has the word in it
            if b"synthetic" in content:
                found += read_provenance(content).get("synthetic") == "true"
        except (VesaliusError, OSError):
            continue
    return found


def as_text(value: Any) -> str:
    """A value of a provenance as PNG holds it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_json(text: str | bytes) -> dict[str, str]:
    try:
        values = json.loads(text)
    except ValueError:  # somebody else's comment
        return {}
    return {k: as_text(v) for k, v in values.items()} if isinstance(values, dict) else {}
