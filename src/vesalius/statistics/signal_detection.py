"""What a reader can tell apart (d'), and which way the reader leans (c): signal detection theory.

With the rate of hits H (a synthetic image called synthetic) and of false alarms F (a real one called
so), and z the quantile of the normal law (Green and Swets 1966; Macmillan and Creelman 2005),

    d' = z(H) - z(F),    c = -(z(H) + z(F)) / 2

Rates are (k + 0.5) / (n + 1), so that none is 0 or 1 (Hautus 1995). c above 0 is a reader who rarely
calls an image synthetic. Of two images side by side, d' = sqrt(2) z(share of right choices).
"""

import math
from dataclasses import replace

import numpy as np
from scipy import special

from vesalius.statistics.readers import ByReader, Readings, means

UNBOUNDED = (-math.inf, math.inf)


def d_primes(said: Readings) -> ByReader:
    """The d' of each reader from answers of 1 (called positive) and 0."""
    return _combined(said, 1.0, -1.0)


def criteria(said: Readings) -> ByReader:
    """The criterion c of each reader from answers of 1 (called positive) and 0."""
    return _combined(said, -0.5, -0.5)


def two_afc_d_primes(right: Readings) -> ByReader:
    """The d' of each reader from choices between two images, 1 where right; all "cases" are pairs.

    The rate is corrected only where all or none are right.
    """
    pairs = replace(right, positive=np.ones(len(right.positive), bool))
    share = means(pairs, (0, 1))
    z, parts = _transformed(share, corrected=False)
    root = math.sqrt(2)
    return replace(share, values=root * z, parts=root * parts, bounds=UNBOUNDED)


def _combined(said: Readings, of_hits: float, of_alarms: float) -> ByReader:
    hits, alarms = means(said, (0, 1)), means(said, (1, 0))
    (found, by_hits), (alarm, by_alarms) = _transformed(hits), _transformed(alarms)
    width = len(said.readers)  # each arm's own columns for what rates of 0 and 1 leave unknown
    split = by_hits.shape[1] - width
    nothing = np.zeros((width, width))
    by_hits = np.concatenate([by_hits, nothing], axis=1)
    by_alarms = np.concatenate([by_alarms[:, :split], nothing, by_alarms[:, split:]], axis=1)
    return replace(
        hits,
        values=of_hits * found + of_alarms * alarm,
        parts=of_hits * by_hits + of_alarms * by_alarms,
        used=hits.used | alarms.used,
        trials=min(hits.trials, alarms.trials),
        bounds=UNBOUNDED,
    )


def _transformed(rates: ByReader, corrected: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Z of each reader's rate (J,), and the parts of its error (J, N + J), by the delta method.

    A rate of 0 or 1 has parts of 0. The binomial variance of its corrected rate stands in a column of
    the reader's own.
    """
    counts = (rates.judged & rates.used).sum(1)
    extreme = (rates.values == 0) | (rates.values == 1)
    shrunk = (rates.values * counts + 0.5) / (counts + 1)
    rate = shrunk if corrected else np.where(extreme, shrunk, rates.values)
    shrinkage = np.where(rate == rates.values, 1.0, counts / (counts + 1))
    z = special.ndtri(rate)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    own = np.sqrt(rate * (1 - rate) / np.maximum(counts, 1)) / density
    parts = rates.parts * (shrinkage / density)[:, None]
    parts = np.where(np.isfinite(z)[:, None], parts, 0)
    return z, np.concatenate([parts, np.diag(np.where(extreme, own, 0))], axis=1)
