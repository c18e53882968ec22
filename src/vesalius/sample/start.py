"""What an image may be drawn from besides noise: another image, how far it may change, and where.

No torch here: a file that cannot be read is reported before a model is loaded.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from vesalius.errors import VesaliusError
from vesalius.images.dicom_pixels import decode, is_bare_dicom, is_dicom
from vesalius.images.pixels import BadImage, open_rgb
from vesalius.sample.checks import check_strength

STRENGTH = 0.6


@dataclass(frozen=True, eq=False)
class Start:
    """An image to start from.

    `strength` is how much of the way it is noised, 0 not at all and 1 until hardly a trace is left.
    `mask`, bool (H, W) of the size to be drawn, is true where it is drawn anew; elsewhere it stays,
    but for what the autoencoder makes of it. `origin` goes into the image's provenance.
    """

    picture: Image.Image  # RGB, of any size
    strength: float = STRENGTH
    mask: np.ndarray | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_strength(self.strength)

    def fitted(self, size: tuple[int, int]) -> np.ndarray:
        """Pixels uint8 (H, W, 3) of (width, height): resized (bicubic) to cover it, centre cut out.

        An image of that size is left as it is.
        """
        return np.asarray(ImageOps.fit(self.picture, size, Image.Resampling.BICUBIC))


def read_start(image: Path | str | bytes, strength: float = STRENGTH) -> Start:
    """The start for image-to-image: an image file or its content, changed with `strength`.

    Raises VesaliusError for a file that is no image and for a strength out of range.
    """
    check_strength(strength)
    data = image if isinstance(image, bytes) else read_bytes(image)
    try:
        dicom = is_dicom(data) or is_bare_dicom(data)
        picture = Image.fromarray(decode(data).array).convert("RGB") if dicom else open_rgb(data)
    except (VesaliusError, BadImage) as error:
        named = "the image" if isinstance(image, bytes) else image
        raise VesaliusError(f"{named} cannot be read as an image: {error}") from error
    origin = {"start_image": hashlib.sha256(data).hexdigest(), "strength": strength}
    return Start(picture, strength, origin=origin)


def read_bytes(path: Path | str) -> bytes:
    """A file's content. Raises VesaliusError where there is none."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise VesaliusError(f"{path} cannot be read: {error.strerror or error}") from error
