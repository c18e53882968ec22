"""Copies of an image: the same bytes, the same pixels, or the same picture saved another way.

The search compares every pair by a perceptual hash in all eight symmetries of the square, so that
within the hash's distance nothing is missed, then looks at the few pairs that are left: both
images are laid onto each other (a crop moves a picture by a pixel) and their local structure is
compared. Patients look alike in outline, brightness and shading, and differ in structure.
"""

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Literal

import numpy as np
from PIL import Image

from vesalius.images.similarity import correlation, local_structure, structure_similarity

Kind = Literal["bytes", "pixels", "near", "embedding"]
TURNS = 8  # symmetries of the square; see `turn`

# All thresholds are chosen on copies planted into twelve medical sets (mirrored, saved at JPEG
# quality 50, resized to 70 %, cropped by 3 %, 10 % brighter, noise of sigma 5) and on the pairs of
# different images that look most alike there.
FEW_BITS, ALL_BITS = 14, 72  # of the first 64 and of all 256 bits, how many may differ
FLAT = 2.0  # grey levels: a thumbnail that varies less shows nothing
ROUGHLY = 0.7  # correlation of two thumbnails, to leave out most pairs at once
ALIKE_THUMBS, MAYBE_THUMBS = 0.85, 0.72  # local structure of thumbnails: sure, and worth a look
ALIKE_PIXELS = 0.87  # local structure at DETAIL pixels
DETAIL = 64  # side at which pixels are compared

_ROWS, _COLUMNS, _SPAN = 16, 4096, 1 << 14  # blocks that stay in the processor's cache; a task
_CHUNK = 256  # pairs that are looked at together


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Rows `a` < `b` hold the same picture."""

    a: int
    b: int
    kind: Kind
    similarity: float  # 1 for equal ones; of local structure or features else
    turned: bool = False  # mirrored or rotated by 90, 180 or 270 degrees


def turn(images: np.ndarray, symmetry: int) -> np.ndarray:
    """(..., H, W) images in one of the eight symmetries: transposed (+4), flipped (+2 rows, +1)."""
    if symmetry & 4:
        images = images.swapaxes(-1, -2)
    if symmetry & 2:
        images = images[..., ::-1, :]
    return images[..., ::-1] if symmetry & 1 else images


def perceptual_hash(thumbs: np.ndarray) -> np.ndarray:
    """The signs of the 16 x 16 lowest frequencies of thumbnails, in all eight symmetries.

    (N, 32, 32) uint8 -> (N, 8, 4) uint64; [n, s] is the hash of `turn(thumbs[n], s)`. Contrast is
    made even beforehand, or all images of a kind would share the bits of their outline. Bits are
    ordered from low to high frequency; that of the mean is always 0, and so are those of
    frequencies that are not there. One cosine transform serves all symmetries: a flip changes the
    sign of the odd frequencies along its axis, a transposition swaps the axes.
    """
    basis = _cosines(thumbs.shape[-1], 16)
    rows, columns = np.divmod(np.arange(256), 16)
    order = np.lexsort((rows, rows + columns))
    rows, columns = rows[order], columns[order]
    hashes = np.empty((len(thumbs), TURNS, 4), np.uint64)
    for start in range(0, len(thumbs), 2048):
        block = slice(start, start + 2048)
        spectrum = basis @ local_structure(thumbs[block].astype(np.float32))[0] @ basis.T
        spectrum[:, 0, 0] = 0
        for symmetry in range(TURNS):
            sign = (-1.0) ** ((symmetry >> 1 & 1) * rows + (symmetry & 1) * columns)
            turned = spectrum.swapaxes(1, 2) if symmetry & 4 else spectrum
            # what a symmetric image has no share of is rounding, whose sign means nothing
            bits = turned[:, rows, columns] * sign.astype(np.float32) > 1e-3
            packed = np.ascontiguousarray(np.packbits(bits, axis=1))
            hashes[block, symmetry] = packed.view(np.uint64)
    return hashes


def _cosines(size: int, count: int) -> np.ndarray:
    """The first `count` rows of the orthonormal DCT-II matrix, float32 (count, size)."""
    k, x = np.arange(count)[:, None], np.arange(size)[None]
    basis = np.cos(np.pi * k * (2 * x + 1) / (2 * size)) * np.sqrt(2 / size)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


def find_duplicates(
    thumbs: np.ndarray,
    digests: Sequence[str],
    same_pixels: Callable[[int, int], bool] | None = None,
    pixels: Callable[[int], np.ndarray] | None = None,
    threads: int | None = None,
) -> list[Duplicate]:
    """Pairs of rows that hold the same picture; enough of them to connect all copies of one.

    `thumbs` is (N, 32, 32) uint8, an array or memory map that is read by rows; `digests` are N
    hashes of the files. `same_pixels(a, b)` says whether two rows decode to equal pixels, which
    makes the kind "pixels" of what would be "near". `pixels(row)` gives a row as (H, W) grey of any
    size: with it a near-duplicate is confirmed at 64 x 64, without it by the thumbnails, which is
    less sure for sets whose images look alike. Both are called for few rows, from this thread.

    A blank image is no near-duplicate of another: it shows nothing to go by. The result is sorted
    by rows, and has at most N - 1 pairs.
    """
    forest, found = _Forest(len(thumbs)), []

    def join(a: int, b: int, kind: Kind, similarity: float, turned: bool = False) -> None:
        if forest.join(a, b):
            found.append(Duplicate(min(a, b), max(a, b), kind, similarity, turned))

    for first, other in _repeats(digests):
        join(first, other, "bytes", 1.0)
    if same_pixels:
        rows = np.flatnonzero(forest.is_root())
        for first, other in _repeats(blake2b(thumbs[row], digest_size=16).digest() for row in rows):
            if same_pixels(int(rows[first]), int(rows[other])):
                join(int(rows[first]), int(rows[other]), "pixels", 1.0)
    rows, hashes = _hash_rows(thumbs, np.flatnonzero(forest.is_root()))
    confirm = _Confirmation(thumbs, pixels)
    for pairs in _candidates(hashes, rows, forest, threads or os.cpu_count() or 1):
        for first, other, similarity, turned in _confirmed(pairs, forest, confirm):
            same = not turned and same_pixels is not None and same_pixels(first, other)
            join(first, other, "pixels" if same else "near", 1.0 if same else similarity, turned)
    return sorted(found, key=lambda pair: (pair.a, pair.b))


def embedding_duplicates(features: np.ndarray, threshold: float) -> list[Duplicate]:
    """Pairs of rows whose `features`, (N, D) floats, have a cosine similarity of `threshold`.

    As many pairs as connect all rows that are that close to one another, at most N - 1. Rows of
    zeros are close to nothing.
    """
    forest, found = _Forest(len(features)), []
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = (features / np.where(norms > 0, norms, 1)).astype(np.float32)
    for start in range(0, len(unit), 512):
        for there in range(start, len(unit), 8192):
            close = unit[start : start + 512] @ unit[there : there + 8192].T
            a, b = np.nonzero(close >= threshold)
            similarity, a, b = close[a, b], a + start, b + there
            keep = (a < b) & forest.apart(a, b)
            for k in np.flatnonzero(keep)[np.argsort(-similarity[keep], kind="stable")]:
                if forest.join(int(a[k]), int(b[k])):
                    cosine = min(1.0, float(similarity[k]))
                    found.append(Duplicate(int(a[k]), int(b[k]), "embedding", cosine))
    return sorted(found, key=lambda pair: (pair.a, pair.b))


def clusters(n: int, duplicates: Iterable[Duplicate]) -> np.ndarray:
    """Which of `n` rows are copies of one another: (n,) int64 numbers from 0, -1 for a lone row."""
    forest = _Forest(n)
    for pair in duplicates:
        forest.join(pair.a, pair.b)
    _, first, number, size = np.unique(
        forest.label, return_index=True, return_inverse=True, return_counts=True
    )
    names = np.full(len(first), -1)
    several = np.flatnonzero(size > 1)
    names[several[np.argsort(first[several])]] = np.arange(len(several))
    return names[number]


def spanning(n: int, duplicates: Iterable[Duplicate]) -> list[Duplicate]:
    """Those of the pairs that connect rows which no earlier pair had connected, sorted by rows."""
    forest = _Forest(n)
    kept = [pair for pair in duplicates if forest.join(pair.a, pair.b)]
    return sorted(kept, key=lambda pair: (pair.a, pair.b))


class _Forest:
    """Sets of rows that grow together; `label` is equal for the rows of one set."""

    def __init__(self, n: int) -> None:
        self.label = np.arange(n)
        self._members: dict[int, list[int]] = {}

    def is_root(self) -> np.ndarray:
        """(n,) bool, true for one row of each set."""
        return self.label == np.arange(len(self.label))

    def apart(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.label[a] != self.label[b]

    def join(self, a: int, b: int) -> bool:
        """Unite two rows' sets; false where they are one already. O(n log n) for all joins."""
        keep, drop = int(self.label[a]), int(self.label[b])
        if keep == drop:
            return False
        kept, dropped = (self._members.pop(label, [label]) for label in (keep, drop))
        if len(kept) < len(dropped):
            keep, kept, dropped = drop, dropped, kept
        self.label[dropped] = keep
        kept.extend(dropped)
        self._members[keep] = kept
        return True


def _repeats(keys: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """(first, later) positions of equal keys."""
    first: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        if (earlier := first.setdefault(key, place)) != place:
            yield earlier, place


def _hash_rows(thumbs: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of `rows` that show something, and their (M, 8, 4) hashes."""
    kept, hashes = [rows[:0]], [np.empty((0, TURNS, 4), np.uint64)]
    for start in range(0, len(rows), 2048):
        some = rows[start : start + 2048]
        block = thumbs[some]
        shows = block.std(axis=(1, 2)) >= FLAT
        kept.append(some[shows])
        hashes.append(perceptual_hash(block[shows]))
    return np.concatenate(kept), np.concatenate(hashes)


_Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows a, rows b, symmetry of b


def _candidates(
    hashes: np.ndarray, rows: np.ndarray, forest: _Forest, threads: int
) -> Iterator[_Found]:
    """Pairs within the hash's distance that are still apart: block by block, closest first."""
    low = np.ascontiguousarray(hashes[:, :, 0].T)  # (8, M)

    def search(start: int, there: int) -> _Found:
        stop = min(start + _ROWS, len(rows))
        differing = np.empty((stop - start, _COLUMNS), np.uint64)
        count = np.empty(differing.shape, np.uint8)
        mine, label = low[0, start:stop, None], forest.label[rows[start:stop]]
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
        for left in range(there, min(there + _SPAN, len(rows)), _COLUMNS):
            right = min(left + _COLUMNS, len(rows))
            other = forest.label[rows[left:right]]
            if label[0] == other[0] and (label == label[0]).all() and (other == label[0]).all():
                continue  # a long sequence of one picture: all joined already
            xor, bits = differing[:, : right - left], count[:, : right - left]
            for symmetry in range(TURNS):
                np.bitwise_xor(mine, low[symmetry, left:right], out=xor)
                np.bitwise_count(xor, out=bits)
                if bits.min() <= FEW_BITS:
                    a, b = np.divmod(np.flatnonzero(bits <= FEW_BITS), right - left)
                    keep = (label[a] != other[b]) & (a + start < b + left)
                    a, b = a[keep] + start, b[keep] + left
                    distance = np.bitwise_count(hashes[a, 0] ^ hashes[b, symmetry]).sum(axis=1)
                    keep = distance <= ALL_BITS
                    parts.append((distance[keep], a[keep], b[keep], symmetry))
        if not parts:
            return rows[:0], rows[:0], rows[:0]
        distance, a, b = (np.concatenate([part[k] for part in parts]) for k in range(3))
        symmetry = np.repeat([part[3] for part in parts], [len(part[1]) for part in parts])
        order = np.argsort(distance, kind="stable")
        return rows[a[order]], rows[b[order]], symmetry[order]

    tasks = (
        (start, there)
        for start in range(0, len(rows), _ROWS)
        for there in range(start, len(rows), _SPAN)
    )
    with ThreadPoolExecutor(threads) as pool:
        # few at a time: what has been joined meanwhile need not be found again
        waiting = deque(pool.submit(search, *task) for task in islice(tasks, threads + 1))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(search, *task) for task in islice(tasks, 1))


def _confirmed(
    found: _Found, forest: _Forest, confirm: "_Confirmation"
) -> Iterator[tuple[int, int, float, bool]]:
    """Those of the pairs that are the same picture, with similarity and whether it was turned."""
    a, b, symmetry = found
    while (apart := forest.apart(a, b)).any():
        a, b, symmetry = a[apart], b[apart], symmetry[apart]
        for k, similarity in confirm(a[:_CHUNK], b[:_CHUNK], symmetry[:_CHUNK]):
            if forest.label[a[k]] != forest.label[b[k]]:
                yield int(a[k]), int(b[k]), similarity, bool(symmetry[k])
        a, b, symmetry = a[_CHUNK:], b[_CHUNK:], symmetry[_CHUNK:]


class _Confirmation:
    """Looks at pairs: at their thumbnails, and at their pixels where those can be had."""

    def __init__(self, thumbs: np.ndarray, pixels: Callable[[int], np.ndarray] | None) -> None:
        self._thumbs = thumbs
        self._enough = MAYBE_THUMBS if pixels else ALIKE_THUMBS
        self._detail = lru_cache(4096)(lambda row: _shrink(pixels(row))) if pixels else None

    def __call__(
        self, a: np.ndarray, b: np.ndarray, symmetry: np.ndarray
    ) -> Iterator[tuple[int, float]]:
        """(position, similarity) of the pairs that are the same picture."""
        one, other = self._thumbs[a].astype(np.float32), self._thumbs[b].astype(np.float32)
        for s in np.unique(symmetry):
            other[symmetry == s] = turn(other[symmetry == s], int(s))
        places = np.flatnonzero(correlation(one, other) >= ROUGHLY)
        similarity = structure_similarity(one[places], other[places])
        for k, alike in zip(places, similarity, strict=True):
            if alike >= self._enough:
                if self._detail is None:
                    yield int(k), float(alike)
                    continue
                one_detail = self._detail(int(a[k]))[None]
                other_detail = turn(self._detail(int(b[k])), int(symmetry[k]))[None]
                if (alike := structure_similarity(one_detail, other_detail)[0]) >= ALIKE_PIXELS:
                    yield int(k), float(alike)


def _shrink(pixels: np.ndarray) -> np.ndarray:
    """(H, W) grey of any size as float32 (DETAIL, DETAIL), smoothed before it is sampled."""
    image = Image.fromarray(np.asarray(pixels, np.float32))
    return np.asarray(image.resize((DETAIL, DETAIL), Image.Resampling.BILINEAR))
