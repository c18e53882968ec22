"""Made-up readers and cases whose truth is known, to see what a study can show (Roe and Metz 1997).

What reader j sees in case k of arm t (0 real, 1 synthetic) is

    X = d' (t - 1/2) + R_jt + C_k + W_jk

with independent normal parts: how readers differ (R), how cases do, for all readers alike (C), and all
that is of this reader and this case (W, with the error). C and W have a variance of 1 together, so d' is
that of the average reader. `cases` is then the correlation of two readers' views of a case.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from vesalius.errors import VesaliusError
from vesalius.statistics.readers import Readings

CUTS = (-1.0, -0.45, 0.0, 0.45, 1.0)  # of six levels, about the middle of the two arms


@dataclass(frozen=True)
class Population:
    """Readers and cases to draw from. Raises VesaliusError for variances that make no sense."""

    d_prime: float = 0.0
    readers: float = 0.011  # the variance of R
    cases: float = 0.3  # of C; that of W is 1 less this

    def __post_init__(self) -> None:
        if not (self.readers >= 0 and 0 <= self.cases <= 1 and math.isfinite(self.d_prime)):
            raise VesaliusError(
                "between readers the variance is 0 or more, between cases from 0 to 1: not "
                f"{self.readers:g} and {self.cases:g}"
            )

    def draw(self, readers: int, arms: np.ndarray, rng: np.random.Generator) -> Readings:
        """What so many readers see in cases of these `arms` (N,) bool, about 0 between the arms."""
        of_readers = math.sqrt(self.readers) * rng.normal(size=(readers, 2))
        of_cases = math.sqrt(self.cases) * rng.normal(size=len(arms))
        within = math.sqrt(1 - self.cases) * rng.normal(size=(readers, len(arms)))
        middle = self.d_prime * (arms - 0.5)
        return Readings(middle + of_readers[:, arms.astype(int)] + of_cases + within, arms)

    @property
    def accuracy(self) -> float:
        """The mean share of right answers of readers who cut at the middle of the two arms."""
        return float(special.ndtr(self.d_prime / 2 / math.sqrt(1 + self.readers)))


def levels(seen: Readings, cuts: Sequence[float] = CUTS) -> Readings:
    """Levels from 1 (surely real) of what readers see; six of them, 1 to 6, with the usual cuts."""
    return Readings(np.digitize(seen.answers, cuts) + 1.0, seen.positive, seen.readers)
