"""The share of images that have something, and how sure it is."""

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from scipy import special

from vesalius.errors import VesaliusError
from vesalius.statistics.figure import Figure
from vesalius.statistics.intervals import LEVEL


@dataclass(frozen=True)
class Share:
    """`count` of `n` images, and the 95 % interval of the rate (Wilson 1927)."""

    count: float  # of means of numbers between 0 and 1 as well, n times their mean
    n: int

    @property
    def value(self) -> float:
        """The rate."""
        return self.count / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high."""
        z = 1.959964
        centre = (self.count + z * z / 2) / (self.n + z * z)
        half = z / (self.n + z * z) * sqrt(self.count * (1 - self.value) + z * z / 4)
        return max(0.0, centre - half), min(1.0, centre + half)

    def figure(self, name: str, **more: Any) -> Figure:
        """The rate with its interval."""
        return Figure(name, self.value, *self.interval, **{"n": self.n, **more})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.interval
        return {**asdict(self), "value": self.value, "low": low, "high": high}


def exact_interval(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a binomial rate (Clopper and Pearson 1934)."""
    if not 0 <= count <= n or n < 1:
        raise VesaliusError(f"{count} of {n} is no rate")
    tail = (1 - level) / 2
    low = float(special.betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0
    return low, high
