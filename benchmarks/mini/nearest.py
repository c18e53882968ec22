"""Has the model copied? The nearest training image of each generated one.

    python -m benchmarks.mini.nearest --pairs PAIRS --features FEATURES --out OUT [--count 500]

FEATURES comes from real_features.py; OUT is the --out of fid.py, which kept the first images as
PNG. Every generated image is compared with the whole training part of all ten sets: the ten most
alike by cosine similarity of Inception features, then LPIPS (AlexNet). The real images held out
from training, measured the same way, calibrate: an image nearer than the 1 % quantile of its own
set's held-out distances counts as a near-copy, so about 1 % is what a model that copies nothing
shows. OUT/nearest.png shows the ten closest pairs, generated left, real right.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.mini.common import SETS, RealFeatures, generated_settings
from benchmarks.recording import record, table
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.privacy import near_copy_threshold, nearest
from vesalius.models.networks.features import read_features
from vesalius.models.networks.lpips import LPIPS
from vesalius.pairs.table import Pairs, read_pairs, square

SHOWN, TILE, GAP = 10, 192, 12  # pairs in the picture, pixels of an image and between pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True, help="from real_features.py")
    parser.add_argument("--out", type=Path, required=True, help="the --out of fid.py")
    parser.add_argument("--count", type=int, default=500, help="generated images to look at")
    parser.add_argument("--calibration", type=int, help="use only so many held-out images")
    parser.add_argument("--side", type=int, default=128, help="pixels for LPIPS")
    args = parser.parse_args()

    pairs, real = read_pairs(args.pairs), RealFeatures(args.features)
    sources, splits = pairs.column("source"), pairs.column("split")
    keys = list(zip(sources, map(int, pairs.column("row")), strict=True))
    train = [i for i, split in enumerate(splits) if split == "train"]
    held = [i for i, split in enumerate(splits) if split != "train"]
    held = np.random.default_rng(0).permutation(held)[: args.calibration].tolist()
    stored = read_features(args.out / "generated.safetensors")
    files = sorted((args.out / "images").glob("*.png"))[: min(args.count, len(stored["row"]))]
    names = [SETS[number] for number in stored["set"][: len(files)]]

    distance, train_features = LPIPS("alex"), real([keys[i] for i in train])

    def training(i: int) -> np.ndarray:
        return pairs.image(train[i], args.side)

    found = nearest(
        lambda i: square(Image.open(files[i]), args.side),
        stored["features"][: len(files)],
        training,
        train_features,
        distance=distance,
    )
    calibration = nearest(
        lambda i: pairs.image(held[i], args.side),
        real([keys[i] for i in held]),
        training,
        train_features,
        distance=distance,
    )

    rows = compare(names, found.distance, [sources[i] for i in held], calibration.distance)
    table(rows)
    picture(files, pairs, [train[i] for i in found.index], found.distance, args.out)
    figures = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    settings = {**generated_settings(args.out), "count": len(files), "side": args.side}
    record(args.out, "nearest", figures, settings)


def compare(
    names: list[str], distances: np.ndarray, held_names: list[str], held_distances: np.ndarray
) -> list[list[Any]]:
    """Rows of the table: medians, threshold and the fraction of near-copies, per set and in all."""
    rows: list[list[Any]] = [
        ["set", "median", "real median", "minimum", "threshold", "% below", "N", "N real"]
    ]
    below = 0
    for name in SETS:
        mine = distances[np.array(names) == name]
        honest = held_distances[np.array(held_names) == name]
        if not len(mine) or not len(honest):
            continue
        threshold = near_copy_threshold(honest)
        copies = int((mine < threshold).sum())
        below += copies
        values = [np.median(mine), np.median(honest), mine.min(), threshold]
        percent = 100 * copies / len(mine)
        rows.append([name, *map(float, values), percent, len(mine), len(honest)])
    values = [np.median(distances), np.median(held_distances), distances.min()]
    percent = 100 * below / len(distances)
    total: list[Any] = ["all", *map(float, values), "per set", percent, len(distances)]
    return [*rows, [*total, len(held_distances)]]


def picture(
    files: list[Path], pairs: Pairs, nearest_rows: list[int], distances: np.ndarray, out: Path
) -> None:
    """OUT/nearest.png: the closest pairs first, two pairs a line."""
    lines = (SHOWN + 1) // 2
    sheet = Image.new("RGB", (4 * TILE + GAP, lines * (TILE + GAP) - GAP), "white")
    for place, i in enumerate(np.argsort(distances)[:SHOWN]):
        left, top = (place % 2) * (2 * TILE + GAP), (place // 2) * (TILE + GAP)
        sheet.paste(Image.fromarray(square(Image.open(files[i]), TILE)), (left, top))
        real = Image.fromarray(pairs.image(nearest_rows[i], TILE))
        sheet.paste(real, (left + TILE, top))
    sheet.save(out / "nearest.png")


if __name__ == "__main__":
    try:
        main()
    except VesaliusError as error:
        raise SystemExit(f"error: {error}") from error
