"""FID, KID, precision and recall of n images against n, beside torch-fidelity in the same run.

    python -m benchmarks.evaluate.speed --out OUT [--n 2000] [--data SOURCE] [--device cpu]

Both read the same two folders of 256 px PNGs, from SOURCE (anything `vesalius evaluate` reads, 2n
images or more) or drawn. Both have the weights of 2015-12-05 and the resize of TensorFlow 1. Ours:
one pass, all figures, no store; and FID alone. torch-fidelity: `calculate_metrics` for each of the
three, one by one, without its cache; of them FID alone is the second comparison. Each is a process'
first and only run of its kind, after one of 8 images that loads libraries. --repeat takes the
fastest.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.evaluate.peer import peer_metrics
from benchmarks.recording import record, table
from vesalius.images.pixels import open_rgb, square
from vesalius.models.networks.extractors import find_extractor
from vesalius.models.networks.features import extract
from vesalius.pairs.open_images import open_images
from vesalius.statistics.distances import fid, kid, prdc

SIDE, K = 256, 3  # K: torch-fidelity's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--n", type=int, default=2000, help="images on each side")
    parser.add_argument("--data", type=Path, help="where real images are taken from")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folders = write_images(Path(work), args.n, args.data)
        warm = write_images(Path(work) / "warm", 8, None)
        ours(*warm, args.device, kernel=True)
        theirs(*warm, args.device, "fid")

        def fastest(run: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
            return min((timed(run) for _ in range(args.repeat)), key=lambda each: each[0])

        all_ours = fastest(lambda: ours(*folders, args.device, kernel=True))
        fid_ours = fastest(lambda: ours(*folders, args.device, kernel=False))
        three = {
            metric: fastest(lambda metric=metric: theirs(*folders, args.device, metric))
            for metric in ("fid", "kid", "prc")
        }
    peer = {name: value for _, found in three.values() for name, value in found.items()}
    names = {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "precision": "precision",
        "recall": "recall",
    }
    seconds = sum(each[0] for each in three.values())
    rows: list[list[Any]] = [
        ["", "ours", "torch-fidelity", "times"],
        ["FID + KID + PRC, s", all_ours[0], seconds, seconds / all_ours[0]],
        ["FID alone, s", fid_ours[0], three["fid"][0], three["fid"][0] / fid_ours[0]],
    ]
    table(rows)
    for name, of_peer in names.items():
        print(f"{name:10s} {all_ours[1][name]:.6f} {peer[of_peer]:.6f}")
    figures = {
        "seconds": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]],
        "values": {name: [all_ours[1][name], peer[names[name]]] for name in names},
    }
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    record(args.out, "evaluate-speed", figures, settings)


def timed(run: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def ours(synthetic: Path, real: Path, device: str, *, kernel: bool) -> dict[str, float]:
    network = find_extractor("inception-tf1")
    x, y = (
        extract(open_images(folder), [network], device=device).features["inception-tf1"]
        for folder in (synthetic, real)
    )
    found = {"fid": fid(x, y)}
    if kernel:
        near = prdc(y, x, K)
        found |= {"kid": kid(x, y, size=subset(len(x))).mean}
        found |= {"precision": near.precision, "recall": near.recall, "coverage": near.coverage}
    return found


def theirs(synthetic: Path, real: Path, device: str, metric: str) -> dict[str, float]:
    count = sum(1 for _ in real.iterdir())
    return peer_metrics(
        str(synthetic),
        str(real),
        cuda=device.startswith("cuda"),
        kid_subset_size=subset(count),
        **{metric: True},
    )


def subset(count: int) -> int:
    return min(1000, count // 2)


def write_images(work: Path, count: int, data: Path | None) -> tuple[Path, Path]:
    """Two folders of `count` PNGs each: rows drawn from `data`, or soft random colours."""
    rng = np.random.default_rng(count)
    images = open_images(data) if data else None
    rows = rng.permutation(len(images))[: 2 * count] if images else np.arange(2 * count)
    folders = work / "synthetic", work / "real"
    for folder in folders:
        folder.mkdir(parents=True)
    for k, row in enumerate(rows):
        if images:
            picture = Image.fromarray(square(open_rgb(images.encoded(int(row))), SIDE))
        else:
            coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
            picture = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(folders[k % 2] / f"{k:06d}.png", compress_level=1)
    return folders


if __name__ == "__main__":
    main()
