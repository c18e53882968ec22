"""Strong augmentation of training images.

A view is a function of the image's content and its number alone, so that its features are kept like
any others: with a frozen backbone, training draws one of a few views of each image at every step.
"""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

VERSION = "strong 1"
CROP = (0.6, 1.0)  # of the area
TURN = 20.0  # degrees, to either side
LIGHT = (0.7, 1.4)  # brightness, contrast and saturation, each
BLUR = 1.5  # pixels of a 256 px image, at most
NOISE = 8.0  # levels, at most


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
    width, height = (min(side, max(16, round(share * side))) for side in image.size)
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
