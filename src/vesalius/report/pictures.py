"""Pictures on a page: thumbnails as text, and strips of them, drawn by a seed, that show each class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.images.sheets import data_uri

THUMB_SIDE = 128  # pixels
MOST_CLASSES = 20  # with pictures


@dataclass(frozen=True)
class Source:
    """A set of images that pictures are drawn from."""

    title: str
    rows: Callable[[str], Sequence[Any]]  # of a class
    encoded: Callable[[Any], bytes]  # the image file of a row
    series: int = -1  # -1: real images


@dataclass(frozen=True)
class Strip:
    """Pictures of one class and set; "" stands for one that cannot be shown."""

    title: str
    series: int
    count: int  # images that there are
    images: list[str]


@dataclass(frozen=True)
class ClassPictures:
    """A class, with a strip for each set."""

    name: str
    strips: list[Strip]


def thumbnail(load: Callable[[], bytes | Image.Image]) -> str:
    """A picture as a data URI, pixels alone; empty where it cannot be shown."""
    try:
        image = load()
        image = open_rgb(image) if isinstance(image, bytes) else image
        return data_uri(image, THUMB_SIDE)
    except (VesaliusError, OSError):
        return ""


def draw_pictures(
    classes: Sequence[str], sources: Sequence[Source], count: int, seed: int
) -> list[ClassPictures]:
    """`count` pictures of each class from each source, drawn by chance; none for 0."""
    rng = np.random.default_rng(seed)

    def strip(source: Source, name: str) -> Strip:
        rows = source.rows(name)
        drawn = [rows[k] for k in rng.permutation(len(rows))[:count].tolist()]
        images = [thumbnail(partial(source.encoded, row)) for row in drawn]
        return Strip(source.title, source.series, len(rows), images)

    shown = classes[:MOST_CLASSES] if count else ()
    return [ClassPictures(name, [strip(source, name) for source in sources]) for name in shown]
