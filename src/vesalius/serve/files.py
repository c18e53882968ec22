"""Images of the library as files to download: as they are, in other formats, several at once."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from PIL import Image

from vesalius.core.manifest import write_manifest
from vesalius.errors import VesaliusError
from vesalius.images.dicom_kept import Kept
from vesalius.images.encode import encode_image
from vesalius.images.sheets import thumbnail
from vesalius.sample.folder import MANIFEST, SHEET, TILE, digest, made_by, save_sheet
from vesalius.serve.conductor import Library
from vesalius.serve.database import Made

THUMBNAIL = 192  # pixels


@dataclass(frozen=True)
class Format:
    """A format of downloads."""

    media_type: str
    suffix: str


FORMATS = {
    "png": Format("image/png", ".png"),
    "jpeg": Format("image/jpeg", ".jpg"),
    "dicom": Format("application/dicom", ".dcm"),
    "raw": Format("application/octet-stream", ".raw"),
    "thumbnail": Format("image/png", ".png"),
}
Encoding = Literal["png", "jpeg", "dicom", "raw", "thumbnail"]


class Gone(VesaliusError):
    """An image whose file somebody has removed."""


def encoded(made: Made, path: Path, format: Encoding) -> bytes:
    """The content of an image in a format. Raises Gone, or VesaliusError for what it cannot hold."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Gone("the file of this image is gone") from error
    if format == "png":
        return content
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        image.load()
        pixels = np.asarray(image)
    if format == "raw":
        return _deep(pixels).astype("<u2").tobytes()
    if format == "dicom":
        facts = {"study": digest(made.job.encode()), "number": made.number + 1}
        kept = Kept.from_facts(made.kept) if made.kept else None
        return encode_image(
            pixels, made.provenance, "dicom", window=made.window, kept=kept, **facts
        )
    if format == "jpeg":
        return encode_image(_eight_bits(pixels, made), made.provenance, "jpeg")
    stream = io.BytesIO()
    thumbnail(Image.fromarray(_eight_bits(pixels, made)), THUMBNAIL).save(stream, "PNG")
    return stream.getvalue()


def _deep(pixels: np.ndarray) -> np.ndarray:
    """Grey values, 16 bits: those of colour are the mean of its channels, on the same scale."""
    if pixels.dtype == np.uint16:
        return pixels
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    return np.rint(grey * 257.0)


def _eight_bits(pixels: np.ndarray, made: Made) -> np.ndarray:
    if pixels.dtype != np.uint16:
        return pixels
    low, high = made.window or (0, 65535)
    return np.clip((pixels - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)


def archive(found: Sequence[Made], library: Library, format: Encoding) -> bytes:
    """A ZIP of images, their manifest and a sheet of all. Raises Gone."""
    stream = io.BytesIO()
    rows, tiles, captions = [], [], []
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as out, TemporaryDirectory() as folder:
        for made in found:
            path = library.image(made.id)
            content = encoded(made, path, format)
            name = f"{made.id}{FORMATS[format].suffix}"
            out.writestr(name, content)
            label = {"label": made.label} if made.label else {}
            rows.append({"file": name, **made.provenance, **label, "sha256": digest(content)})
            with Image.open(io.BytesIO(encoded(made, path, "thumbnail"))) as image:
                tiles.append(thumbnail(image, TILE))
            captions.append(f"{made.prompt} (seed {made.seed})")
        write_manifest(Path(folder) / MANIFEST, rows)
        title = f"SYNTHETIC images {made_by(rows[0])}"
        save_sheet(Path(folder) / SHEET, tiles, captions, title, rows[0])
        for name in (MANIFEST, SHEET):
            out.write(Path(folder) / name, name)
    return stream.getvalue()
