"""Inception features of every real image of the ten sets, once; the other scripts read them.

    python -m benchmarks.mini.real_features --data DIR --out FEATURES

Each image: short side 256 (bicubic), centre crop, then the resize "bilinear" to 299. Writes
FEATURES/<set>.safetensors with `features` (N, 2048) float32 and `row` (N,) int64, the row in the
set's Parquet file. A set whose file is complete is skipped, so the command can be run again.
"""

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.mini.common import SETS
from vesalius.models.networks.features import inception_features, read_features, write_features
from vesalius.models.networks.inception import Inception
from vesalius.pairs.table import square

SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the features")
    args = parser.parse_args()
    network = Inception()
    # smallest first, so that there is something to look at early
    for name in sorted(SETS, key=lambda name: (args.data / f"{name}.parquet").stat().st_size):
        source, target = args.data / f"{name}.parquet", args.out / f"{name}.safetensors"
        count = pq.read_metadata(source).num_rows
        if target.exists() and len(read_features(target)["row"]) == count:
            print(f"{name:20s} {count:6d} images  already there")
            continue
        start = time.perf_counter()
        features = inception_features(squares(source), network=network)
        write_features(target, features=features, row=np.arange(count))
        seconds = time.perf_counter() - start
        print(f"{name:20s} {count:6d} images  {seconds / count:.4f} s/image", flush=True)


def squares(source: Path) -> Iterator[np.ndarray]:
    """Every image of a Parquet file as uint8 (256, 256, 3), in row order."""
    for chunk in pq.ParquetFile(source).iter_batches(batch_size=64, columns=["image"]):
        for image in chunk["image"]:
            yield square(Image.open(io.BytesIO(image["bytes"].as_py())), SIDE)


if __name__ == "__main__":
    main()
