"""Does the whole experiment call a gain where synthetic images are only copies, and find a true one?

    python -m benchmarks.utility.type_one --out OUT

Each simulated run draws patients from a law whose classes overlap (normal features, patients of one
to three images that are alike), makes a training, a validation and a test set of them, and runs arms,
probe, search and comparison as `vesalius utility` does:

    copies      "synthetic" images are the training images again, one copy of each; the two recipes
                then draw the same batches in law, so that every gain called is an error
    held back   "synthetic" images are as many real ones of other patients: a true gain, whose size
                is told as the mean difference on `--truth` test images a run

Runs are independent: a new draw of patients each. Rates have Wilson's 95 % interval.
"""

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evaluate.type_one_error import asked, rates
from benchmarks.recording import record, table
from vesalius.utility.arms import Arm
from vesalius.utility.curricula import curriculum
from vesalius.utility.probe import Probe
from vesalius.utility.scores import Truth, by_seed, truth_of

DIMS, CLASSES = 64, 3
SHARES = (0.6, 0.3, 0.1)  # of the classes: one is rare
PATIENTS = {"train": 60, "validation": 40, "test": 100}
ARMS = {
    "copies, mixed": (Arm("mixed", 1.0), "copies"),
    "copies, synthetic first": (Arm("pretrained"), "copies"),
    "held back, mixed": (Arm("mixed", 1.0), "held back"),
}


@dataclass(frozen=True)
class Law:
    """What images are drawn from."""

    apart: float = 0.35  # of the classes' means, in each feature
    patient: float = 0.7  # deviation that a patient's images share; an image's own is one

    def draw(
        self, patients: int, means: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features (n, D), classes (n,) and patients (n,)."""
        of_class = rng.permutation(np.resize(np.repeat(np.arange(CLASSES), 4), patients))
        some = rng.choice(CLASSES, patients, p=SHARES)
        of_class[4 * CLASSES :] = some[4 * CLASSES :]  # four patients of each class at least, about
        groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
        own = self.patient * rng.normal(size=(patients, DIMS))[groups]
        x = means[of_class[groups]] + own + rng.normal(size=(len(groups), DIMS))
        return x.astype(np.float32), of_class[groups], groups


@dataclass
class Experiment:
    """Draws a run; `gains` keeps the difference on `truth` fresh patients of each."""

    arm: Arm
    kind: str
    law: Law
    seeds: int
    steps: int
    truth: int
    gains: list[float]

    def __call__(self, rng: np.random.Generator) -> tuple[Truth, np.ndarray, np.ndarray]:
        """Truth of the test images, predictions of the real images alone and of both."""
        means = self.law.apart * rng.normal(size=(CLASSES, DIMS))
        parts = [self.law.draw(n, means, rng) for n in (*PATIENTS.values(), self.truth)]
        train = parts[0]
        again = train if self.kind == "copies" else self.law.draw(PATIENTS["train"], means, rng)
        parts.append(again)
        edges = np.cumsum([0, *(len(part[1]) for part in parts)])
        real, validation, test, fresh, synthetic = (
            np.arange(a, b) for a, b in itertools.pairwise(edges)
        )
        targets = np.eye(CLASSES, dtype=np.float32)[np.concatenate([part[1] for part in parts])]
        learner = Probe(np.concatenate([part[0] for part in parts]), targets, exclusive=True,
                        steps=self.steps, batch=32)  # fmt: skip
        first = int(rng.integers(2**31))  # seeds of a run's own
        seeds = [first + k for k in range(self.seeds)]
        found = []
        for arm in (Arm("real"), self.arm):
            plans = [curriculum(arm, targets, real, synthetic, s, exclusive=True) for s in seeds]
            asked_for = np.concatenate([test, fresh])
            found.append(learner(plans, seeds, validation, asked_for).test)
        truths = [truth_of(y, groups=groups.tolist()) for _, y, groups in (parts[2], parts[3])]
        values = [float(by_seed("auroc", truths[1], each[:, len(test) :]).mean()) for each in found]
        self.gains.append(values[1] - values[0])
        return truths[0], *(each[:, : len(test)] for each in found)  # pyright: ignore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=int, default=200, help="runs of each kind")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--truth", type=int, default=400, help="fresh patients that tell the truth")
    parser.add_argument("--only", help="one kind of run")
    args = parser.parse_args()

    tests = {"both": asked("both"), "images": asked("images")}
    figures: dict[str, Any] = {}
    shown: list[list[Any]] = [
        ["runs", "true gain", "test over", "gain called", "from", "to", "rejected"]
    ]
    for name, (arm, kind) in ARMS.items():
        if args.only not in (None, name):
            continue
        start = time.perf_counter()
        draw = Experiment(arm, kind, Law(), args.seeds, args.steps, args.truth, [])
        found = rates(draw, tests, args.times)
        gain = float(np.mean(draw.gains))
        figures[name] = {"mean_gain": gain, "sd_gain": float(np.std(draw.gains)), "tests": found}
        figures[name]["sec"] = time.perf_counter() - start
        for test, each in found.items():
            low, high = each["gain_wilson"]
            shown.append([name, f"{gain:+.4f}", test, f"{each['gain_called']:.3f}",
                          f"{low:.3f}", f"{high:.3f}", f"{each['rejected']:.3f}"])  # fmt: skip
    table(shown)
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    record(args.out, "type_one", figures, settings | {"patients": PATIENTS, "law": vars(Law())})


if __name__ == "__main__":
    main()
