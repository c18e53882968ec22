"""Near-duplicates across two sets: pictures of one that are in the other, saved another way.

`duplicates` unites all copies of a picture within one set; here only what crosses counts, pair by
pair, so that synthetic images which all look alike are not chained to a test image. Thresholds and
measures are those of `duplicates`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from PIL import Image

from vesalius.images.duplicates import (
    ALIKE_PIXELS,
    ALL_BITS,
    DETAIL,
    FEW_BITS,
    FLAT,
    MAYBE_THUMBS,
    ROUGHLY,
    TURNS,
    perceptual_hash,
    turn,
)
from vesalius.images.pixels import THUMB, open_rgb
from vesalius.images.similarity import correlation, structure_similarity

Read = Callable[[int], bytes]
_THREADS = 4


def greys(read: Read, rows: Sequence[int]) -> np.ndarray:
    """Thumbnails (n, 32, 32) uint8 of image files."""

    def small(row: int) -> np.ndarray:
        return np.asarray(_grey(read(int(row))).resize((THUMB, THUMB), Image.Resampling.BOX))

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(small, rows))
    return np.stack(found) if found else np.empty((0, THUMB, THUMB), np.uint8)


def crossing(
    read: Read, first: Sequence[int], second: Sequence[int], thumbs: dict[int, np.ndarray]
) -> list[tuple[int, int]]:
    """Pairs of a row of `first` and one of `second` that show one picture, in any of 8 symmetries.

    `thumbs` keeps thumbnails by row from one call to the next.
    """
    lacking = [row for row in dict.fromkeys([*first, *second]) if row not in thumbs]
    thumbs.update(zip(lacking, greys(read, lacking), strict=True))
    ours, theirs = ([row for row in rows if thumbs[row].std() >= FLAT] for rows in (first, second))
    if not ours or not theirs:
        return []
    detail = lru_cache(4096)(lambda row: _detail(read(row)))
    mine = perceptual_hash(np.stack([thumbs[row] for row in ours]))[:, 0]  # (n, 4)
    other = perceptual_hash(np.stack([thumbs[row] for row in theirs]))  # (m, 8, 4)
    found: dict[tuple[int, int], None] = {}
    for place, bits in enumerate(mine):
        few = np.bitwise_count(other[..., 0] ^ bits[0])  # (m, 8)
        rows, symmetries = np.nonzero(few <= FEW_BITS)
        far = np.bitwise_count(other[rows, symmetries] ^ bits).sum(1)
        for row, symmetry in zip(rows[far <= ALL_BITS], symmetries[far <= ALL_BITS], strict=True):
            pair = ours[place], theirs[row]
            if pair not in found and pair[0] != pair[1] and _same(thumbs, detail, pair, symmetry):
                found[pair] = None
    return list(found)


def _same(
    thumbs: dict[int, np.ndarray],
    detail: Callable[[int], np.ndarray],
    pair: tuple[int, int],
    symmetry: int,
) -> bool:
    # the hash of the second in symmetry s is that of turn(second, s)
    a, b = (thumbs[row].astype(np.float32)[None] for row in pair)
    b = turn(b, int(symmetry) % TURNS)
    if correlation(a, b)[0] < ROUGHLY or structure_similarity(a, b)[0] < MAYBE_THUMBS:
        return False
    a, b = detail(pair[0])[None], turn(detail(pair[1])[None], int(symmetry))
    return bool(structure_similarity(a, b)[0] >= ALIKE_PIXELS)


def _grey(data: bytes) -> Image.Image:
    return open_rgb(data).convert("L")


def _detail(data: bytes) -> np.ndarray:
    pixels = Image.fromarray(np.asarray(_grey(data), np.float32))
    return np.asarray(pixels.resize((DETAIL, DETAIL), Image.Resampling.BILINEAR))
