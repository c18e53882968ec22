"""Copies of training images as somebody, or a model, would make them."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from vesalius.images.image_set import ImageSet
from vesalius.images.training_index import WHOLE
from vesalius.models.generator import load_generator
from vesalius.pairs.table import Pairs


def plant(pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> tuple[ImageSet, list[str]]:
    """Copies of `rows` in every kind, as PNG files, kind by kind."""
    vae = load_generator("mini", "cpu", "float32").vae
    images = [pairs.image(int(row), WHOLE) for row in rows]
    files, kinds = [], []
    for kind, change in KINDS.items():
        for image in images:
            files.append(png(change(image, rng, vae)))
            kinds.append(kind)
    sources = pairs.column("source")
    return ImageSet(
        [lambda data=data: data for data in files],
        {"source": [sources[row] for row in rows] * len(KINDS)},
    ), kinds


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def cropped(part: float) -> Callable[..., np.ndarray]:
    def change(image: np.ndarray, rng: np.random.Generator, vae: Any) -> np.ndarray:
        side = WHOLE * (1 - part)
        left, top = rng.uniform(0, WHOLE - side, 2)
        box = (left, top, left + side, top + side)
        size = (WHOLE, WHOLE)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, box))

    return change


def recompressed(image: np.ndarray, rng: np.random.Generator, vae: Any) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream).convert("RGB"))


def noisy(image: np.ndarray, rng: np.random.Generator, vae: Any) -> np.ndarray:
    return np.clip(np.rint(image + rng.normal(0, 5, image.shape)), 0, 255).astype(np.uint8)


@torch.inference_mode()
def reencoded(image: np.ndarray, rng: np.random.Generator, vae: Any) -> np.ndarray:
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    output = vae.decode(vae.encode(pixels).latents).sample[0]
    return ((output.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def several(image: np.ndarray, rng: np.random.Generator, vae: Any) -> np.ndarray:
    return reencoded(np.ascontiguousarray(cropped(0.05)(image, rng, vae)[:, ::-1]), rng, vae)


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "same": lambda image, rng, vae: image,
    "mirrored": lambda image, rng, vae: image[:, ::-1],
    "rotated": lambda image, rng, vae: np.rot90(image),
    "cropped 3 %": cropped(0.03),
    "cropped 5 %": cropped(0.05),
    "cropped 10 %": cropped(0.10),
    "JPEG 50": recompressed,
    "noise": noisy,
    "brighter": lambda image, rng, vae: np.clip(image * 1.2, 0, 255).astype(np.uint8),
    "autoencoder": reencoded,
    "cropped, mirrored, autoencoder": several,
}
