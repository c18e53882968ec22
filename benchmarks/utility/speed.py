"""How long a grid of 10 arms and 5 seeds takes on 3,000 images, once their features are there.

    python -m benchmarks.utility.speed --out OUT

Features are random numbers as wide as Inception's: what they hold changes no step. The whole of what
`vesalius utility` then does is timed, training and statistics; reading images is not.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.recording import record, table
from vesalius.utility.arms import parse_arms
from vesalius.utility.curricula import curriculum
from vesalius.utility.grid import Run
from vesalius.utility.judgement import judge
from vesalius.utility.probe import Probe
from vesalius.utility.scores import truth_of

RATIOS = (0.5, 1.0, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=3000, help="real ones; as many synthetic")
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--replicates", type=int, default=1000)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    labels = rng.integers(0, args.classes, 2 * args.images)
    centres = 0.05 * rng.normal(size=(args.classes, args.dims))
    x = (rng.normal(size=(len(labels), args.dims)) + centres[labels]).astype(np.float32)
    targets = np.eye(args.classes, dtype=np.float32)[labels]
    cuts = [round(share * args.images) for share in (0, 0.7, 0.8, 1)]
    train, validation, test = (np.arange(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True))  # noqa: RUF007
    synthetic = np.arange(args.images, 2 * args.images)
    views = np.stack([x[train]] * args.views)
    learner = Probe(x, targets, True, views, np.arange(len(x)))
    arms = parse_arms([], RATIOS)
    start, cpu = time.perf_counter(), time.process_time()
    runs = {}
    for arm in arms:
        plans = [
            curriculum(arm, targets, train, synthetic, s, exclusive=True) for s in range(args.seeds)
        ]
        made = learner(plans, range(args.seeds), validation, test)
        scored = np.array([[c["validation_auroc"] for c in made.chosen]])
        runs[arm.name] = Run(arm, made.test, scored, 0, 0, made.seconds, made.chosen)
    trained = time.perf_counter()
    judge(truth_of(labels[test]), runs, "100 %", test_share=1.0, times=args.replicates)
    done = time.perf_counter()
    figures = {
        "arms": len(arms),
        "training_sec": trained - start,
        "statistics_sec": done - trained,
        "cpu_sec": time.process_time() - cpu,
        "threads": torch.get_num_threads(),
    }
    table([["arms", "training s", "statistics s", "processor s"],
           [len(arms), trained - start, done - trained, figures["cpu_sec"]]])  # fmt: skip
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    record(args.out, "utility_speed", figures, settings | learner.about)


if __name__ == "__main__":
    main()
