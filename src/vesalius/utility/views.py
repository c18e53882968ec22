"""Strong augmentation of training images, and the cached features of their views.

A view is a function of the image's content and its number alone, so that its features are kept like
any others: with a frozen backbone, training draws one of a few views of each image at every step.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vesalius.images.pixels import open_rgb, square
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.feature_store import FeatureStore
from vesalius.models.networks.features import ahead

VERSION = "strong 1"
CROP = (0.6, 1.0)  # of the area
TURN = 20.0  # degrees, to either side
LIGHT = (0.7, 1.4)  # brightness, contrast and saturation, each
BLUR = 1.5  # pixels of a 256 px image, at most
NOISE = 8.0  # levels, at most
_WORKERS = 4
_BATCH = {"cuda": 128, "cpu": 16}


def augment(image: Image.Image, rng: np.random.Generator, symmetry: str = "") -> Image.Image:
    """An RGB image turned, cropped, relit, blurred and made noisy, at random.

    `symmetry` is the table's: `square` also mirrors it and turns it by right angles, which of other
    images may change what they show.
    """
    if symmetry == "square":
        image = ImageOps.mirror(image) if rng.random() < 0.5 else image
        image = image.rotate(90 * int(rng.integers(4)), expand=True)
    image = image.rotate(rng.uniform(-TURN, TURN), Image.Resampling.BILINEAR)
    share = np.sqrt(rng.uniform(*CROP))
    width, height = (max(16, round(share * side)) for side in image.size)
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    image = image.crop((left, top, left + width, top + height)).resize(image.size)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(rng.uniform(*LIGHT))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, BLUR) * min(image.size) / 256))
    noise = rng.normal(0, rng.uniform(0, NOISE), (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def view_rng(key: str, view: int) -> np.random.Generator:
    """What decides view number `view` of the image with this SHA-1."""
    return np.random.default_rng([int(key[:15], 16), view])


def view_features(
    read: Callable[[int], bytes],
    rows: Sequence[int],
    keys: Sequence[str],
    symmetries: Sequence[str],
    extractor: Extractor,
    store: Path | None,
    *,
    views: int,
    side: int | None = None,
    device: torch.device | str = "cpu",
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_message: Callable[[str], None] = lambda message: None,
) -> np.ndarray:
    """Features (views, n, D) of augmented views of images, from the store where it has them.

    `rows` are what `read` reads, `keys` and `symmetries` theirs; `side` as in `features.extract`.
    """
    found: list[np.ndarray] = []
    size = _BATCH.get(torch.device(device).type, 16)
    for view in range(views):
        shape = {"square": str(side)} if side else {}
        identity = {**extractor.identity, **shape, "augmented": f"{VERSION}, view {view}"}
        kept = FeatureStore(store, identity, on_message)
        missing = kept.missing(keys)

        def load(place: int, view: int = view) -> np.ndarray:
            image = open_rgb(read(int(rows[place])))
            made = augment(image, view_rng(keys[place], view), symmetries[place])
            return extractor.view.prepare(square(made, side) if side else np.asarray(made))

        done = 0
        with ThreadPoolExecutor(_WORKERS) as pool:
            try:
                stream = ahead(pool, load, missing, 2 * size)
                while batch := list(islice(stream, size)):
                    x = extractor.view.batch([pixels for _, pixels in batch], device)
                    kept.add([keys[place] for place, _ in batch], extractor(x))
                    done += len(batch)
                    on_images(view * len(missing) + done, views * len(missing))
            finally:
                kept.close()
        found.append(kept.take(keys))
    return np.stack(found)
