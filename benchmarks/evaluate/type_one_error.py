"""How often does the comparison of two arms call a gain that is not there, and find one that is?

    python -m benchmarks.evaluate.type_one_error --out OUT

Experiments are drawn from a model of classifiers whose AUROC is known, not from images: every image
has a difficulty that all classifiers share, patients have several images alike, an arm may have its
own view of an image or patient that all its trainings share, and every training its own quality and
noise. With equal arms every call is an error.

`rates` takes anything that draws experiments. The full one (classifiers trained with copies of the
training set as "synthetic") hands it a function that trains two arms and returns the truth of the
test images and the predictions (S, N, C) of both.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.recording import record, table
from vesalius.utility.comparisons import Comparison, compare
from vesalius.utility.scores import Truth, truth_of

LEVEL = 0.05
Experiment = tuple[Truth, np.ndarray, np.ndarray]
Test = Callable[[Truth, np.ndarray, np.ndarray], Comparison]


class Draw(Protocol):
    """Makes one experiment: truth, and the predictions of two arms."""

    def __call__(self, rng: np.random.Generator) -> Experiment: ...


@dataclass(frozen=True)
class Simulated:
    """A law of experiments; standard deviations are of scores on the probit scale."""

    patients: int = 200
    seeds: int = 5
    prevalence: float = 0.3
    separation: float = 2.0  # of positives from negatives
    gain: float = 0.0  # the second arm's separation above the first's
    patient: float = 0.5  # shared by both arms
    difficulty: float = 0.7  # of an image, shared by both arms
    view: float = 0.0  # of an arm on an image and, as much again, on a patient; all seeds share it
    quality: float = 0.1  # of a training: its separation
    noise: float = 0.6  # of a training on an image

    def auroc(self, arm: int) -> float:
        """The true AUROC of a mean training, for positives and negatives of different patients."""
        parts = (self.patient, self.difficulty, self.view, self.view, self.noise)
        distance = (self.separation + arm * self.gain) / math.sqrt(sum(x * x for x in parts))
        return (1 + math.erf(distance / 2)) / 2

    def __call__(self, rng: np.random.Generator) -> Experiment:
        groups = np.repeat(np.arange(self.patients), rng.integers(1, 4, self.patients))
        count, y = len(groups), (rng.random(self.patients) < self.prevalence)[groups]
        shared = self.difficulty * rng.normal(size=count)
        shared += self.patient * rng.normal(size=self.patients)[groups]
        arms = []
        for arm in (0, 1):
            own = self.view * (rng.normal(size=count) + rng.normal(size=self.patients)[groups])
            apart = self.separation + arm * self.gain
            apart = apart + self.quality * rng.normal(size=(self.seeds, 1))
            values = apart * (y - 0.5) + shared + own
            values = values + self.noise * rng.normal(size=(self.seeds, count))
            arms.append(1 / (1 + np.exp(-values[..., None])))
        return truth_of(y.astype(int), groups=groups.tolist()), arms[0], arms[1]


def asked(over: str, name: str = "auroc", test: str | None = None) -> Test:
    """A comparison as users get it."""

    def run(truth: Truth, first: np.ndarray, second: np.ndarray) -> Comparison:
        options: dict[str, Any] = {"names": (name,), "over": over, "test": test, "times": 200}
        return compare(truth, {"first": first, "second": second}, "first", **options)[0]

    return run


def patients_ignored(truth: Truth, first: np.ndarray, second: np.ndarray) -> Comparison:
    """DeLong's test as most papers use it: of one training, every image on its own."""
    alone = replace(truth, groups=np.arange(len(truth)))
    return asked("images")(alone, first[:1], second[:1])


TESTS: Mapping[str, Test] = {
    "both": asked("both"),
    "images": asked("images"),
    "seeds": asked("seeds"),
    "one seed, patients ignored": patients_ignored,
}
SLOW: Mapping[str, Test] = {
    "both, AUPR by bootstrap": asked("both", "aupr"),
    "both, balanced accuracy": asked("both", "balanced_accuracy"),
    "permutation": asked("images", test="permutation"),
}

EQUAL = {
    "one law (copies)": Simulated(),
    "one law, 3 seeds": Simulated(seeds=3),
    "one law, uneven trainings": Simulated(quality=0.4),
    "two recipes": Simulated(view=0.4),
    "two recipes, uneven trainings": Simulated(view=0.4, quality=0.3),
    "two recipes, 12 patients positive": Simulated(view=0.4, prevalence=0.06),
}
GAINS = (0.2, 0.4, 0.6)  # of separation


def rates(
    draw: Draw, tests: Mapping[str, Test], times: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The share of `times` experiments that each test rejects at 5 %, and calls a gain."""
    found: dict[str, list[Comparison]] = {name: [] for name in tests}
    for rng in np.random.default_rng(seed).spawn(times):
        experiment = draw(rng)
        for name, test in tests.items():
            found[name].append(test(*experiment))
    made: dict[str, dict[str, Any]] = {}
    for name, results in found.items():
        rejected = [each for each in results if each.p is not None and each.p < LEVEL]
        gains = sum((each.difference or 0) > 0 for each in rejected)
        made[name] = {
            "rejected": len(rejected) / times,
            "wilson": wilson(len(rejected), times),
            "gain_called": gains / times,
            "gain_wilson": wilson(gains, times),
            "times": times,
        }
    return made


def wilson(found: int, times: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, size = found / times, 1 + z * z / times
    middle = (share + z * z / (2 * times)) / size
    reach = z / size * math.sqrt(share * (1 - share) / times + z * z / (4 * times * times))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=int, default=200, help="experiments a law")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", action="store_true", help="bootstrap and permutation, too")
    args = parser.parse_args()

    tests = {**TESTS, **SLOW} if args.slow else TESTS
    laws = dict(EQUAL)
    laws |= {f"gain of {gain}": Simulated(view=0.4, gain=gain) for gain in GAINS}
    figures: dict[str, Any] = {}
    shown: list[list[Any]] = [["law", "true gain in AUROC", "test", "rejected", "from", "to"]]
    for name, law in laws.items():
        start = time.perf_counter()
        found, gain = rates(law, tests, args.times, args.seed), law.auroc(1) - law.auroc(0)
        figures[name] = {"law": asdict(law), "auroc_gain": gain, "tests": found}
        figures[name]["sec"] = time.perf_counter() - start
        shown += [
            [name, f"{gain:.4f}", test, f"{each['rejected']:.3f}"]
            + [f"{bound:.3f}" for bound in each["wilson"]]
            for test, each in found.items()
        ]
    table(shown)
    record(args.out, "type_one_error", figures, {"times": args.times, "seed": args.seed})


if __name__ == "__main__":
    main()
