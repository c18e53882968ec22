import math

import numpy as np
import pytest
from scipy import stats

from vesalius.errors import VesaliusError
from vesalius.statistics.paired import mcnemar
from vesalius.statistics.readers import Readings, over_readers
from vesalius.statistics.share import exact_interval
from vesalius.statistics.signal_detection import criteria, d_primes, two_afc_d_primes


def answers(*counts: tuple[int, int]) -> Readings:
    """One reader who called `count` of `n` positive, of the positives first, then of the negatives."""
    said = [k < count for count, n in counts for k in range(n)]
    positive = [arm == 0 for arm, (_, n) in enumerate(counts) for _ in range(n)]
    return Readings([said], positive)


def z(count: int, n: int) -> float:
    return float(stats.norm.ppf((count + 0.5) / (n + 1)))


def test_d_prime_and_criterion_of_counts():
    said = answers((9, 10), (2, 9))
    assert d_primes(said).values == pytest.approx([1.771293], abs=1e-6)
    assert criteria(said).values == pytest.approx([-0.211157], abs=1e-6)
    assert math.isfinite(d_primes(answers((10, 10), (0, 9))).values[0])


def test_36_of_50_side_by_side():
    found = two_afc_d_primes(answers((36, 50)))
    assert found.values == pytest.approx([0.824262], abs=1e-6)
    assert exact_interval(36, 50) == pytest.approx((0.5751, 0.8377), abs=5e-5)
    assert mcnemar(36, 14)[0] == pytest.approx(0.002602, abs=5e-7)


@pytest.mark.parametrize(("count", "n"), [(0, 9), (9, 9), (1, 9), (250, 500)])
def test_exact_intervals_are_scipys(count, n):
    theirs = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    assert exact_interval(count, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    with pytest.raises(VesaliusError, match="rate"):
        exact_interval(n + 1, n)


def test_readers_have_the_d_prime_of_their_counts():
    rng = np.random.default_rng(0)
    positive = np.arange(40) < 22
    said = (rng.random((4, 40)) < np.where(positive, 0.8, 0.3)).astype(float)
    said[3, positive] = 1  # never misses: the rate is corrected
    table = Readings(said, positive)
    d, c = d_primes(table), criteria(table)
    for j, row in enumerate(said):
        hits, alarms = z(int(row[positive].sum()), 22), z(int(row[~positive].sum()), 18)
        assert d.values[j] == pytest.approx(hits - alarms, abs=1e-12)
        assert c.values[j] == pytest.approx(-(hits + alarms) / 2, abs=1e-12)
    assert (d.errors > 0).all()
    assert d.errors[3] > 0.4  # what a perfect row leaves unknown


def test_the_error_of_one_readers_d_prime_and_criterion():
    """Against many draws of 100 + 100 answers at rates of 0.75 and 0.3."""
    rng = np.random.default_rng(1)
    positive = np.arange(200) < 100
    rows = rng.random((2000, 200)) < np.where(positive, 0.75, 0.3)
    table = Readings(rows.astype(float), positive)
    for figures in (d_primes(table), criteria(table)):
        assert (figures.errors**2).mean() == pytest.approx(figures.values.var(), rel=0.1)


def test_side_by_side_over_readers():
    right = np.zeros((3, 50))
    right[0, :36] = right[1, 7:43] = right[2, 14:] = 1
    figures = two_afc_d_primes(Readings(right, np.ones(50, bool)))
    assert figures.values == pytest.approx([0.824262] * 3, abs=1e-6)
    found = over_readers(figures)
    assert found.low < 0.824262 < found.high and found.scope == "readers and cases"
    perfect = two_afc_d_primes(Readings(np.ones((1, 50)), np.ones(50, bool)))
    assert math.isfinite(perfect.values[0]) and perfect.errors[0] > 0
