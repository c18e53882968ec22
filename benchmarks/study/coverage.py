"""Do intervals over readers and cases hold the truth, and does the equivalence test err as it says?

    python -m benchmarks.study.coverage --out OUT

Readers and cases are drawn from the model of Roe and Metz (1997), one modality: reader j sees
d' (t - 1/2) + R_jt + C_k + W_jk in case k of arm t, with variances of R from 0 (readers are alike) to 0.06
(they differ much) and of C from 0.1 to 0.6, where C and W make 1. Each draw is analysed as `vesalius
study` does it. The truth is that of the population: the mean reader on the mean case.

    coverage     the share of draws whose 95 % interval holds the true accuracy, AUC of six levels,
                 AUC of the uncut scale, d'
    error        the share of draws that show equivalence within 0.1 of 0.5 where the truth is 0.6

Rates have Wilson's 95 % interval.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, special

from benchmarks.recording import record, run, table
from vesalius.statistics.equivalence import equivalence
from vesalius.statistics.readers import ByReader, Estimate, Readings, auc, means, over_readers
from vesalius.statistics.roe_metz import CUTS, Population, levels
from vesalius.statistics.share import Share
from vesalius.statistics.signal_detection import d_primes

SIZES = ((5, 100), (3, 100), (8, 150), (5, 200))
VARIANCES = ((0.0, 0.1), (0.0, 0.6), (0.011, 0.3), (0.03, 0.3), (0.06, 0.6))  # readers, cases
MARGIN = 0.1


def auc_of_levels(population: Population) -> float:
    """P(higher level) + P(the same) / 2 of a synthetic and a real image, over all readers."""
    scale = math.sqrt(1 + population.readers)
    edges = np.array([-np.inf, *CUTS, np.inf])
    real, made = (
        np.diff(special.ndtr((edges - middle) / scale))
        for middle in (-population.d_prime / 2, population.d_prime / 2)
    )
    below = np.concatenate([[0], np.cumsum(real)[:-1]])
    return float((made * (below + real / 2)).sum())


def auc_uncut(population: Population) -> float:
    """The same of the uncut scale."""
    return float(special.ndtr(population.d_prime / math.sqrt(2 * (1 + population.readers))))


@dataclass(frozen=True)
class Measure:
    of: Callable[[Readings], ByReader]
    truth: Callable[[Population], float]


MEASURES = {
    "accuracy": Measure(lambda seen: means(seen.correct(0.0)), lambda p: p.accuracy),
    "AUC, six levels": Measure(lambda seen: auc(levels(seen)), auc_of_levels),
    "AUC, uncut": Measure(auc, auc_uncut),
    "d'": Measure(lambda seen: d_primes(seen.decisions(0.0)), lambda p: p.d_prime),
}


def estimates(
    population: Population, size: tuple[int, int], of: Measure, times: int, seed: int
) -> list[Estimate]:
    rng = np.random.default_rng(seed)
    readers, cases = size
    arms = np.arange(cases) >= cases // 2
    return [over_readers(of.of(population.draw(readers, arms, rng))) for _ in range(times)]


def coverage(
    population: Population, size: tuple[int, int], of: Measure, times: int, seed: int
) -> tuple[Share, float]:
    """The share of intervals that hold the truth, and their median width."""
    truth = of.truth(population)
    intervals = [each.interval() for each in estimates(population, size, of, times, seed)]
    held = sum(low <= truth <= high for low, high in intervals)
    return Share(held, times), float(np.median([high - low for low, high in intervals]))


def error(
    population: Population, size: tuple[int, int], of: Measure, times: int, seed: int
) -> Share:
    """How often equivalence is shown where the truth lies at the margin."""

    def beyond(d_prime: float) -> float:
        moved = Population(d_prime, population.readers, population.cases)
        return of.truth(moved) - 0.5 - MARGIN

    at = float(optimize.root_scalar(beyond, bracket=(0.0, 3.0)).root)
    at_margin = Population(at, population.readers, population.cases)
    found = estimates(at_margin, size, of, times, seed)
    return Share(sum(equivalence(each, 0.5, MARGIN).shown for each in found), times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    covered, errors = [], []
    for size in SIZES:
        for readers, cases in VARIANCES:
            for d_prime in (0.0, 1.0, 2.0):
                drawn = Population(d_prime, readers, cases)
                for name, of in MEASURES.items():
                    share, width = coverage(drawn, size, of, arguments.times, arguments.seed)
                    covered.append([*size, readers, cases, d_prime, name, share, width])
            for name in ("accuracy", "AUC, six levels", "AUC, uncut"):
                drawn = Population(0.0, readers, cases)
                share = error(drawn, size, MEASURES[name], arguments.times, arguments.seed)
                errors.append([*size, readers, cases, name, share])
    head = ["readers", "cases", "var readers", "var cases"]
    percent = [[*row[:6], f"{100 * row[6].value:.1f} %", f"{row[7]:.3f}"] for row in covered]
    table([[*head, "d'", "figure", "covered", "width"], *_plain(percent)])
    print()
    table(
        [
            [*head, "figure", "error"],
            *_plain([[*r[:5], f"{100 * r[5].value:.1f} %"] for r in errors]),
        ]
    )
    summary(covered, errors)
    figures = {
        "coverage": [[*row[:6], row[6].as_dict(), row[7]] for row in covered],
        "error": [[*row[:5], row[5].as_dict()] for row in errors],
    }
    record(arguments.out, "study-coverage", figures, {"times": arguments.times, "margin": MARGIN})


def _plain(rows: list[list[object]]) -> list[list[str]]:
    return [[str(cell) for cell in row] for row in rows]


def summary(covered: list[list], errors: list[list]) -> None:
    """For each size and figure the least, the mean and the most over the variances and d'."""
    rows: list[list[str]] = [["readers x cases", "figure", "covered", "mean", "error", "mean"]]
    for size in SIZES:
        for name in MEASURES:
            some = [100 * r[6].value for r in covered if (*r[:2],) == size and r[5] == name]
            wrong = [100 * r[5].value for r in errors if (*r[:2],) == size and r[4] == name]
            said = (
                [f"{min(wrong):.1f} to {max(wrong):.1f}", f"{np.mean(wrong):.1f}"]
                if wrong
                else ["", ""]
            )
            reach = f"{min(some):.1f} to {max(some):.1f}"
            rows.append([f"{size[0]} x {size[1]}", name, reach, f"{np.mean(some):.1f}", *said])
    print()
    table(rows)


if __name__ == "__main__":
    run(main)
