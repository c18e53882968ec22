"""200 replicates of FID at n = 500, d = 2048: how long they take, and beside a plain bootstrap.

    python -m benchmarks.evaluate.bootstrap --out OUT [--n 500] [--times 200]

Three ways, on drawn features that are correlated and not negative as Inception's are: `interval`,
ours, half-samples from inner products; `with repeats`, the textbook's draws of n out of n, from
inner products too; and `from features`, torch-fidelity's FID on such draws, of which only
--peer-times are made and the time for all is that of one, times --times.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.recording import record, table
from vesalius.statistics.distances import fid, fid_of, grams
from vesalius.statistics.intervals import interval, replicate

DIMS = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--n", type=int, default=500, help="images on each side")
    parser.add_argument("--times", type=int, default=200, help="replicates")
    parser.add_argument("--peer-times", type=int, default=2, help="of them by torch-fidelity")
    args = parser.parse_args()
    x, y = features(args.n, 0), features(args.n, 1) + np.float32(0.02)
    rng = np.random.default_rng(0)

    start = time.perf_counter()
    held = grams(x, y)
    found, fraction = replicate(
        lambda i, j: {"fid": fid_of(held.take(i, j))}, (args.n, args.n), times=args.times
    )
    value = fid(x, y)
    low, high = interval(value, found["fid"], fraction)
    ours = time.perf_counter() - start

    def draw() -> np.ndarray:
        return rng.integers(0, args.n, args.n)

    start = time.perf_counter()
    held = grams(x, y)
    repeated = [fid_of(held.take(draw(), draw())) for _ in range(args.times)]
    plain = time.perf_counter() - start

    start = time.perf_counter()
    for _ in range(args.peer_times):
        theirs(x[draw()], y[draw()])
    peer = (time.perf_counter() - start) / args.peer_times * args.times

    below, above = np.quantile(repeated, (0.025, 0.975))
    rows: list[list[Any]] = [
        ["way", "seconds", "FID", "low", "high"],
        ["interval", ours, value, low, high],
        ["with repeats", plain, value, float(below), float(above)],
        ["from features (torch-fidelity)", peer, value, None, None],
    ]
    table(rows)
    figures = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    record(args.out, "evaluate-bootstrap", figures, vars(args) | {"out": str(args.out)})


def features(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(DIMS, DIMS)) / np.sqrt(DIMS)
    return np.maximum(rng.normal(size=(count, DIMS)) @ mixing, 0).astype(np.float32)


def theirs(x: np.ndarray, y: np.ndarray) -> float:
    from torch_fidelity import metric_fid

    either = [metric_fid.fid_features_to_statistics(torch.from_numpy(each)) for each in (x, y)]
    return next(iter(metric_fid.fid_statistics_to_metric(*either, verbose=False).values()))


if __name__ == "__main__":
    main()
