"""Gross fakes: pictures that anybody who looks must know for fakes. Who misses them does not attend.

Each is made from a real image of which nothing is shown otherwise, in one of five ways that take turns.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

_BLOCKS = 6  # along each side, of a shuffled picture
_COARSE = 16  # pixels, of a picture that is enlarged without smoothing


def gross_fake(image: Image.Image, number: int, seed: int) -> Image.Image:
    """The `number`-th fake from an RGB image; the same every time."""
    kind = _KINDS[number % len(_KINDS)]
    values = np.asarray(image.convert("RGB")).astype(np.float64)
    made = kind(values, np.random.default_rng([seed, number, 5]))
    return Image.fromarray(np.clip(np.rint(made), 0, 255).astype(np.uint8))


def _noise(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a denoiser sees it in the middle of its way."""
    return 0.5 * values + 0.5 * 128 + rng.normal(0, 60, (*values.shape[:2], 1))


def _shuffled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blocks of the picture in another order."""
    height, width = (side // _BLOCKS for side in values.shape[:2])
    made = values.copy()
    for place, source in enumerate(rng.permutation(_BLOCKS**2)):
        (y, x), (v, u) = divmod(place, _BLOCKS), divmod(int(source), _BLOCKS)
        made[y * height : (y + 1) * height, x * width : (x + 1) * width] = (
            values[v * height : (v + 1) * height, u * width : (u + 1) * width]
        )  # fmt: skip
    return made


def _checkerboard(values: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Sixteen pixels a side, with the checkerboard of a bad upsampling over them."""
    height, width = values.shape[:2]
    small = Image.fromarray(values.astype(np.uint8)).resize(
        (_COARSE, _COARSE), Image.Resampling.BOX
    )
    made = np.asarray(small.resize((width, height), Image.Resampling.NEAREST)).astype(np.float64)
    tile = max(2, min(height, width) // 64)
    board = (np.add.outer(np.arange(height) // tile, np.arange(width) // tile) % 2)[..., None]
    return made + 50 * board - 25


def _four(values: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """The same picture four times, two of them upside down: more organs than anybody has."""
    height, width = values.shape[:2]
    half = Image.fromarray(values.astype(np.uint8)).resize(
        (width - width // 2, height - height // 2), Image.Resampling.BICUBIC
    )
    small = np.asarray(half).astype(np.float64)
    top = np.concatenate([small, small[::-1]], axis=1)
    return np.concatenate([top, top[::-1]])[:height, :width]


def _waves(values: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """The picture under moving water, and negative in stripes."""
    height, width = values.shape[:2]
    y, x = np.mgrid[:height, :width]
    shift = np.rint(width * 0.12 * np.sin(2 * np.pi * 4 * y / height)).astype(int)
    made = values[y, (x + shift) % width]
    stripe = (x * 6 // width) % 2 == 1
    made[stripe] = 255 - made[stripe]
    return made


_KINDS: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    _noise,
    _shuffled,
    _checkerboard,
    _four,
    _waves,
)
