import math

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.equivalence import equivalence, non_inferiority
from vesalius.statistics.readers import Estimate, Readings, means, over_readers


def estimate(value, se=0.02, bounds=(0.0, 1.0)):
    return Estimate(value, se, math.inf, "readers and cases", 5, 100, 50, bounds, {})


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, True), (0.56, True), (0.57, False), (0.43, False), (0.8, False)]
)
def test_equivalence_is_the_90_interval_inside_the_margin(value, shown):
    """1.645 x 0.02 = 0.0329: from 0.433 to 0.567 the interval lies inside 0.4 to 0.6."""
    found = equivalence(estimate(value), 0.5, 0.1)
    assert found.shown is shown is (found.p < 0.05)
    assert found.high - found.low == pytest.approx(2 * 1.644854 * 0.02, abs=1e-6)


@pytest.mark.parametrize(("value", "shown"), [(-0.06, True), (-0.07, False), (0.3, True)])
def test_non_inferiority_looks_at_one_side(value, shown):
    found = non_inferiority(estimate(value, bounds=(-1.0, 1.0)), 0.1)
    assert found.shown is shown is (found.p < 0.05)


def test_no_significant_difference_is_not_equivalence():
    wide = estimate(0.52, 0.08)
    assert wide.p(0.5) > 0.05 and not equivalence(wide, 0.5, 0.1).shown


def test_without_a_margin_there_is_no_test():
    with pytest.raises(VesaliusError, match="margin"):
        equivalence(estimate(0.5), 0.5, 0.0)


def test_answers_without_any_spread_show_what_their_number_allows():
    def always_right(cases):
        return over_readers(means(Readings(np.ones((3, cases)), np.ones(cases, bool)), (0, 1)))

    assert equivalence(always_right(60), 1.0, 0.1).shown
    assert not equivalence(always_right(20), 1.0, 0.1).shown
