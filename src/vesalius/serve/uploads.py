"""Images that others send: decoded only once their headers have said how large they are."""

import base64
import binascii
import io
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from vesalius.core.optional import need
from vesalius.errors import VesaliusError, first_line
from vesalius.images.dicom_frames import coded_size
from vesalius.images.dicom_pixels import is_bare_dicom, is_dicom, parse
from vesalius.images.pixels import FORMATS
from vesalius.sample.canvas import read_canvas
from vesalius.sample.masks import make_mask, parse_ellipse
from vesalius.sample.start import read_start
from vesalius.serve.bodies import Drawing, Inpaint
from vesalius.serve.settings import MOST_KEPT_MASK, MOST_UPLOADED_PIXELS

_META = 132  # bytes before the file meta information
_DEFLATED = "1.2.840.10008.1.2.1.99"  # a few bytes of it can fill any memory
_DECODING = threading.BoundedSemaphore(2)  # each takes some hundred MB at most


def content_of(data: str) -> bytes:
    """The file that a text of base64, or a data URI, contains.

    Raises VesaliusError for another text, and for an image that is too large to be decoded.
    """
    text = data.partition(",")[2] if data.startswith("data:") else data
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VesaliusError("an image's data is not base64 of a file") from error
    width, height = _size(content)
    if width * height > MOST_UPLOADED_PIXELS:
        raise VesaliusError(
            f"an image has {width}x{height} pixels, and {MOST_UPLOADED_PIXELS:,} are the most"
        )
    return content


def _size(content: bytes) -> tuple[int, int]:
    """What the header of an image says of its size; all frames of DICOM count.

    A compressed frame has a size of its own, whatever the tags say.
    """
    if is_dicom(content) or is_bare_dicom(content):
        return _dicom_size(content)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.size
    except Exception as error:  # damaged files raise anything
        raise VesaliusError("an image's data is no image of a known format") from error


def _dicom_size(content: bytes) -> tuple[int, int]:
    pydicom = need("pydicom", "dicom", "DICOM")
    try:
        if is_dicom(content):
            stream = io.BytesIO(content)
            stream.seek(_META)
            meta = pydicom.filereader.read_dataset(
                stream, False, True, stop_when=lambda tag, *_: tag.group != 2
            )
            if meta.get("TransferSyntaxUID") == _DEFLATED:
                raise VesaliusError("deflated DICOM is not taken: save it uncompressed")
        dataset = parse(content)
        frames = max(1, int(dataset.get("NumberOfFrames") or 1))
        said = int(dataset.Columns), int(dataset.Rows) * frames
        return max(said, coded_size(dataset) or said, key=lambda size: size[0] * size[1])
    except VesaliusError:
        raise
    except Exception as error:
        raise VesaliusError(f"a DICOM file cannot be read: {first_line(error)}") from error


def check_pictures(body: Drawing, files: Mapping[str, Path]) -> str:
    """The mask of a job as base64 of a PNG of black and white; empty without one.

    Raises VesaliusError where a job's images cannot be read, or do not fit together.
    """
    with _DECODING:
        if isinstance(body, Inpaint):
            canvas = read_canvas(files["image"])
            shapes = [parse_ellipse(text) for text in body.ellipses]
            make_mask(canvas.size, files.get("mask"), shapes)
            if "mask" in files:
                return _black_and_white(make_mask(canvas.size, files["mask"]).pixels)
        elif "image" in files:
            read_start(files["image"])
    return ""


def _black_and_white(mask: np.ndarray) -> str:
    """A shape without shades, so that it can be kept: empty where it is too large for that."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG", optimize=True)
    text = base64.b64encode(stream.getvalue()).decode()
    return text if len(text) <= MOST_KEPT_MASK else ""
