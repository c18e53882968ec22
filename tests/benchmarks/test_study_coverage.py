"""A quick version of what the benchmark of the reader study measures."""

import pytest
from benchmarks.study.coverage import MEASURES, auc_of_levels, auc_uncut, coverage, error

from vesalius.statistics.roe_metz import Population


@pytest.mark.parametrize("name", ["accuracy", "AUC, six levels"])
def test_intervals_hold_the_truth_and_sameness_is_rarely_claimed_at_the_margin(name):
    """95 % of 400 draws have a simulation error of 1.1 %, 5 % too."""
    population = Population(0.7, 0.011, 0.3)
    held, width = coverage(population, (5, 100), MEASURES[name], 400, 0)
    assert 0.91 <= held.value <= 0.98 and 0.1 < width < 0.3
    assert error(population, (5, 100), MEASURES[name], 400, 0).value <= 0.085


def test_the_truth_that_intervals_are_held_against():
    """Against what very many readers of very many cases see."""
    import numpy as np

    population, arms = Population(1.0, 0.06, 0.3), np.arange(400) >= 200
    seen = population.draw(800, arms, np.random.default_rng(0))
    for name, truth in (
        ("accuracy", population.accuracy),
        ("AUC, six levels", auc_of_levels(population)),
        ("AUC, uncut", auc_uncut(population)),
    ):
        assert MEASURES[name].of(seen).values.mean() == pytest.approx(truth, abs=0.03)
    assert auc_of_levels(Population()) == pytest.approx(0.5)
