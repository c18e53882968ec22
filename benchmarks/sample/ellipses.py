"""Ellipses at random within a region, as lesions are put into images."""

import math

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.sample.masks import Ellipse, draw_ellipse

_TRIES = 1000  # places that an ellipse is looked for


def random_ellipses(
    count: int, seed: int, region: np.ndarray, radii: tuple[float, float] = (0.05, 0.12)
) -> list[Ellipse]:
    """`count` ellipses that lie within `region`, bool (H, W), and depend on `seed` alone.

    They may overlap. `radii` are the least and the largest, as fractions of the image.
    Raises VesaliusError where none that small fits.
    """
    rng = np.random.default_rng(seed)
    height, width = region.shape
    rows, columns = np.nonzero(region)
    found: list[Ellipse] = []
    for _ in range(_TRIES * count if len(rows) else 0):
        if len(found) == count:
            break
        place = rng.integers(len(rows))
        rx, ry = rng.uniform(*radii, size=2)
        x, y = (columns[place] + 0.5) / width, (rows[place] + 0.5) / height
        ellipse = Ellipse(float(x), float(y), float(rx), float(ry), float(rng.uniform(0, 180)))
        covers = draw_ellipse(ellipse, (width, height))
        if covers.any() and region[covers].all() and _inside(ellipse, width, height):
            found.append(ellipse)
    if len(found) < count:
        raise VesaliusError(
            f"only {len(found)} of {count} ellipses of radius {radii[0]:g} to {radii[1]:g} fit in "
            "the region: make them smaller, or the region larger"
        )
    return found


def _inside(ellipse: Ellipse, width: int, height: int) -> bool:
    """Whether the image holds all of it."""
    turn = math.radians(ellipse.angle)
    a, b = ellipse.rx * width, ellipse.ry * height
    reach_x = math.hypot(a * math.cos(turn), b * math.sin(turn)) / width
    reach_y = math.hypot(a * math.sin(turn), b * math.cos(turn)) / height
    return min(ellipse.x, 1 - ellipse.x) >= reach_x and min(ellipse.y, 1 - ellipse.y) >= reach_y
