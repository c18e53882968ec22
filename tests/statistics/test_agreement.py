import math

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.agreement import cohen, fleiss, gwet, krippendorff, repeated, table

COUNTS = np.array([[0, 4, 1], [0, 8, 0], [0, 1, 5]])
READERS = ("123321412***", "1233224125**", "*33323422513", "12332441251*")
RATINGS = np.array([[math.nan if c == "*" else float(c) for c in row] for row in READERS]).T


@pytest.mark.parametrize(
    ("weights", "value", "se"),
    [("nominal", 0.4842, 0.1380), ("linear", 0.4701, 0.1457), ("quadratic", 0.4502, None)],
)
def test_cohens_kappa(weights, value, se):
    found = cohen(COUNTS, weights)
    assert found.value == pytest.approx(value, abs=5e-5)
    assert se is None or found.se == pytest.approx(se, abs=5e-5)
    assert found.observed == pytest.approx(13 / 19)


def test_the_interval_of_kappa():
    found = cohen(COUNTS)
    assert (found.low, found.high) == pytest.approx((0.2137, 0.7547), abs=5e-5)


@pytest.mark.parametrize(
    ("scale", "value"), [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107)]
)
def test_krippendorffs_alpha(scale, value):
    found = krippendorff(RATINGS, scale)
    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.units == 11 and found.low < found.value < found.high


def test_gwets_ac1():
    assert gwet(RATINGS).value == pytest.approx(0.775444, abs=1e-6)


def test_ac1_stays_sensible_where_nearly_all_is_one_kind():
    ratings = np.ones((100, 2))
    ratings[0, 0] = ratings[1, 1] = 0
    assert fleiss(ratings).value < 0 < 0.9 < gwet(ratings).value
    assert fleiss(ratings).observed == gwet(ratings).observed == pytest.approx(0.98)


def test_fleiss_refuses_missing_ratings():
    with pytest.raises(VesaliusError, match="Krippendorff"):
        fleiss(RATINGS)


def test_nothing_to_agree_on_is_no_figure():
    same = np.full((10, 3), 2.0)
    for found in (fleiss(same), krippendorff(same), cohen(table(same[:, 0], same[:, 1]))):
        assert found.value is None and "none" in repr(found)
    alone = np.array([[1, math.nan], [math.nan, 2]])
    assert krippendorff(alone).units == gwet(alone).units == 0
    assert cohen(table(alone[:, 0], alone[:, 1])).value is None


def test_a_reader_repeats_the_own_answers():
    first = np.array([1, 2, 2, 3, 1, math.nan, 3])
    second = np.array([1, 2, 3, 3, 1, 2, 3])
    found = repeated(first, second)
    assert found.units == 6 and found.observed == pytest.approx(5 / 6)
    assert found.value == cohen(np.array([[2, 0, 0], [0, 1, 1], [0, 0, 2]])).value


def test_weights_know_of_answers_that_nobody_gave():
    """Between 2 and 4 lies a 3, so 2 against 4 is as far apart as the scale says."""
    first, second = np.array([1, 2, 4, 5.0, 2]), np.array([1, 4, 4, 5.0, 2])
    whole = repeated(first, second, "linear", range(1, 6))
    assert whole.value != repeated(first, second, "linear").value
    full = table(first, second, range(1, 6))
    assert full.shape == (5, 5) and whole.value == cohen(full, "linear").value
    with pytest.raises(VesaliusError, match="5"):
        table(first, second, range(1, 5))
