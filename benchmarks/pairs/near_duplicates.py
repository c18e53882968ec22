"""How fast near-duplicates are found among many images, how many of them, and how many too many.

    python -m benchmarks.pairs.near_duplicates --out OUT [--images 100000] [--peer-images 10000]

The images are random fields with the spectrum of photographs, each over one of twenty outlines
that many share, as patients' images do. One in fifty is a planted copy of another: mirrored,
rotated, noisy (what JPEG does to a thumbnail), brighter, or cropped by 2 to 4 %. Only thumbnails
are compared: there are no larger pixels to confirm with, as there are for real images.

The peers are the usual recipe, imagehash's 64-bit phash and scikit-learn's BallTree with the Hamming
distance, and imagededup's PHash where it is installed, on `--peer-images`, and `find_duplicates` runs
on the same ones beside them. Each is a process of its own; its memory is its largest resident set.
The peers hash upright images only, so it is not counted against them that they miss turned ones.
"""

import argparse
import importlib.util
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.recording import in_a_process, peak_resident, record
from vesalius.images.duplicates import Duplicate, clusters, find_duplicates, perceptual_hash, turn

SIDE, THUMB = 64, 32
COPIES = ("mirrored", "rotated", "noisy", "brighter", "cropped")
PEER_BITS = 10  # of 64 that may differ: the distance most users of phash take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--peer-images", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a side's process
    args = parser.parse_args()

    if args.one:
        side = SIDES.get(args.one, partial(ours, threads=args.threads))
        found = side(*images(args.images))
        print(json.dumps(found | {"peak MiB": peak_resident() // 2**20}))
        return

    figures = {}
    cases = [("all", args.images), ("ours, on the peers' images", args.peer_images)]
    for name, count in [*cases, *((side, args.peer_images) for side in SIDES)]:
        if name == "imagededup" and importlib.util.find_spec("imagededup") is None:
            print("imagededup: not installed, left out")
            continue
        known = ["--images", str(count), "--threads", str(args.threads), "--out", str(args.out)]
        figures[name] = in_a_process("benchmarks.pairs.near_duplicates", *known, "--one", name)
    print(json.dumps(figures, indent=1))
    settings = {name: getattr(args, name) for name in ("images", "peer_images", "threads")}
    record(args.out, "near_duplicates", figures, settings)


def images(n: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(n, 32, 32) thumbnails, which picture each shows, and what was done to it ("" for none)."""
    rng = np.random.default_rng(0)
    outlines = fields(rng, 20, steepness=3.0)
    thumbs = np.empty((n, THUMB, THUMB), np.uint8)
    source, kinds = np.arange(n), [""] * n
    for start in range(0, n, 1000):
        count = min(1000, n - start)
        pictures = 0.7 * outlines[rng.integers(20, size=count)] + fields(rng, count, steepness=1.5)
        pictures = 128 + 40 * pictures / pictures.std(axis=(1, 2), keepdims=True)
        for copy in range(count // 50):
            place, kind = count - 1 - copy, COPIES[copy % len(COPIES)]
            pictures[place] = changed(rng, pictures[copy], kind)
            source[start + place], kinds[start + place] = start + copy, kind
        small = pictures.reshape(count, THUMB, 2, THUMB, 2).mean(axis=(2, 4))
        thumbs[start : start + count] = np.clip(np.rint(small), 0, 255)
    # copies are not neighbours in a real set
    order = rng.permutation(n)
    return thumbs[order], source[order], [kinds[place] for place in order]


def fields(rng: np.random.Generator, n: int, steepness: float) -> np.ndarray:
    """(n, SIDE, SIDE) random fields whose amplitude falls with frequency to the `steepness`."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(rng.standard_normal((n, SIDE, SIDE), np.float32))
    field = np.fft.irfft2(noise * frequency**-steepness, (SIDE, SIDE))
    return field / field.std(axis=(1, 2), keepdims=True)


def changed(rng: np.random.Generator, picture: np.ndarray, kind: str) -> np.ndarray:
    if kind == "mirrored":
        return turn(picture, 1)
    if kind == "rotated":
        return turn(picture, int(rng.integers(2, 8)))
    if kind == "noisy":
        return picture + rng.normal(0, 3, picture.shape)
    if kind == "brighter":
        return picture * rng.uniform(1.05, 1.15)
    kept = SIDE * (1 - rng.uniform(0.02, 0.04))
    left, top = rng.uniform(0, SIDE - kept, 2)
    image = Image.fromarray(picture.astype(np.float32))
    box = (left, top, left + kept, top + kept)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box))


def ours(thumbs: np.ndarray, source: np.ndarray, kinds: list[str], threads: int) -> dict[str, Any]:
    start = time.perf_counter()
    perceptual_hash(thumbs)
    hashing = time.perf_counter() - start
    start = time.perf_counter()
    found = find_duplicates(thumbs, [str(row) for row in range(len(thumbs))], threads=threads)
    return {
        "hashing s": hashing,
        "all s": time.perf_counter() - start,
        **score(found, source, kinds),
    }


def balltree(thumbs: np.ndarray, source: np.ndarray, kinds: list[str]) -> dict[str, Any]:
    import imagehash
    from sklearn.neighbors import BallTree

    start = time.perf_counter()
    bits = np.stack([imagehash.phash(Image.fromarray(thumb)).hash.ravel() for thumb in thumbs])
    hashing = time.perf_counter() - start
    tree = BallTree(bits, metric="hamming")
    near = tree.query_radius(bits, (PEER_BITS + 0.5) / 64)
    seconds = time.perf_counter() - start
    found = [
        Duplicate(row, int(other), "near", 1.0)
        for row, others in enumerate(near)
        for other in others
        if row < other
    ]
    return {"hashing s": hashing, "all s": seconds, **score(found, source, kinds)}


def imagededup(thumbs: np.ndarray, source: np.ndarray, kinds: list[str]) -> dict[str, Any]:
    from imagededup.methods import PHash  # pyright: ignore[reportMissingImports]

    start = time.perf_counter()
    method = PHash(verbose=False)
    hashes = {str(k): method.encode_image(image_array=thumb) for k, thumb in enumerate(thumbs)}
    hashing = time.perf_counter() - start
    near = method.find_duplicates(encoding_map=hashes, max_distance_threshold=PEER_BITS)
    seconds = time.perf_counter() - start
    found = [
        Duplicate(int(name), int(other), "near", 1.0)
        for name, others in near.items()
        for other in others
        if int(name) < int(other)
    ]
    return {"hashing s": hashing, "all s": seconds, **score(found, source, kinds)}


SIDES = {"imagehash and BallTree": balltree, "imagededup": imagededup}


def score(found: list[Duplicate], source: np.ndarray, kinds: list[str]) -> dict[str, Any]:
    """Recall by kind of copy, and pairs of different pictures that were called copies."""
    cluster = clusters(len(source), found)
    row_of = {int(picture): row for row, picture in enumerate(source) if not kinds[row]}
    hits: dict[str, list[bool]] = {kind: [] for kind in COPIES}
    for row, kind in enumerate(kinds):
        if kind:
            hits[kind].append(0 <= cluster[row] == cluster[row_of[int(source[row])]])
    wrong = sum(source[pair.a] != source[pair.b] for pair in found)
    recall = {kind: round(float(np.mean(hit)), 4) for kind, hit in hits.items()}
    return {"recall": recall, "false alarms": int(wrong), "pairs": len(found)}


if __name__ == "__main__":
    main()
