"""What noise costs in epsilon, and what epsilon costs in noise, by Google's dp-accounting.

A step draws each patient with the chance q (Poisson sampling), sums gradients of norm at most C and
adds N(0, sigma^2 C^2). Neighbours differ in one patient, whose gradient is zero in one of them
(zero-out): the number of patients and their splits are public.
"""

import logging
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

from scipy.optimize import brentq

from vesalius.core.optional import need
from vesalius.errors import VesaliusError

# The loss is rounded up to multiples of this: epsilon is never understated by it.
_GRID = 1e-4
_FINE = 1e-3  # relative, of sigma
_LARGEST_SIGMA = 1e6


@dataclass(frozen=True)
class Mechanism:
    """What is accounted for: `steps` sums with noise, of patients drawn with the chance `rate`."""

    sigma: float  # the noise's standard deviation in units of the clip norm
    rate: float  # q; 1: every patient is in every step
    steps: int

    def epsilon(self, delta: float, by: Literal["pld", "rdp"] = "pld") -> float:
        """Epsilon at `delta`: by privacy loss distributions, or by Renyi divergences, which is larger."""
        return _epsilon(self, delta, by, _GRID)


def accountant() -> str:
    """The accountant and its version, for the record. Raises VesaliusError where it is missing."""
    _library()
    return f"dp-accounting {version('dp-accounting')}"


def _library() -> Any:
    what = "training with a privacy guarantee"
    need("dp_accounting.pld", "privacy", what)
    need("dp_accounting.rdp", "privacy", what)
    return need("dp_accounting", "privacy", what)


@lru_cache(maxsize=256)
def _epsilon(mechanism: Mechanism, delta: float, by: str, grid: float) -> float:
    if not mechanism.sigma:
        return math.inf
    library = _library()
    zero_out = library.NeighboringRelation.REPLACE_SPECIAL
    if by == "pld":
        counted = library.pld.PLDAccountant(zero_out, value_discretization_interval=grid)
    else:
        counted = library.rdp.RdpAccountant(neighboring_relation=zero_out)
    step = library.GaussianDpEvent(mechanism.sigma)
    if mechanism.rate < 1:
        step = library.PoissonSampledDpEvent(mechanism.rate, step)
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of each Renyi order that it leaves out
    try:
        counted.compose(library.SelfComposedDpEvent(step, mechanism.steps))
    finally:
        logger.setLevel(level)
    return float(counted.get_epsilon(delta))


@lru_cache(maxsize=64)
def calibrated(rate: float, steps: int, epsilon: float, delta: float) -> Mechanism:
    """The mechanism with the least noise that gives (epsilon, delta); without any where it is infinite.

    Raises VesaliusError where no noise is enough.
    """
    if math.isinf(epsilon):
        return Mechanism(0.0, rate, steps)

    coarse = max(_GRID, min(1e-2, epsilon / 200))

    def excess(sigma: float) -> float:
        return _epsilon(Mechanism(sigma, rate, steps), delta, "pld", coarse) - epsilon

    enough = 1.0
    while excess(enough) > 0:
        enough *= 2
        if enough > _LARGEST_SIGMA:
            raise VesaliusError(
                f"no noise gives epsilon {epsilon:g} at delta {delta:g}: take a larger epsilon"
            )
    least = enough / 2
    while excess(least) <= 0:
        enough, least = least, least / 2
    root: Any = brentq(excess, least, enough, rtol=_FINE)  # pyright: ignore[reportArgumentType]
    sigma = float(root) * (1 - _FINE)
    # rounded up until the fine grid, which is what the card states, agrees
    found = Mechanism(math.ceil(sigma * 1000) / 1000, rate, steps)
    while found.epsilon(delta) > epsilon:
        found = replace(found, sigma=round(found.sigma * (1 + _FINE), 6))
    return found


def noise_over_signal(mechanism: Mechanism, dimensions: int, patients_per_step: float) -> float:
    """The noise's norm over the largest that a step's mean gradient can have: sigma sqrt(d) / B."""
    return mechanism.sigma * math.sqrt(dimensions) / patients_per_step
