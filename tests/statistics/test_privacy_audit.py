"""The one-run bound against published figures, a closed form and its own rate of false alarms."""

import numpy as np
import pytest
from scipy.stats import norm

from vesalius.errors import VesaliusError
from vesalius.statistics.privacy_audit import (
    one_run_bound,
    one_run_ceiling,
    one_run_p_value,
    paired_bound,
    rejected_epsilon,
)


def normal(shift, count):
    """Scores N(shift, 1) without chance: the quantiles at the middles of equal parts."""
    return norm.ppf((np.arange(count) + 0.5) / count) + shift


def hull(points):
    """The corners of the upper convex hull of points (x, y) that never fall to the right."""
    corners = []
    for x, y in points:
        while len(corners) > 1:
            (ax, ay), (bx, by) = corners[-2:]
            if (bx - ax) * (y - ay) < (by - ay) * (x - ax):
                break
            corners.pop()
        corners.append((x, y))
    return corners


@pytest.mark.parametrize(("shift", "epsilon"), [(0, 0), (1, 1.13346), (2, 2.311945), (4, 4.395568)])
def test_the_formula_has_the_published_figures(shift, epsilon):
    """They are of guesses above the corners of the ROC's hull, with the confidence shared by these.

    That choice is not ours, as the scores decide it; the formula behind it is.
    """
    members, others = normal(shift, 10_000), normal(0, 10_000)
    thresholds = np.r_[np.union1d(members, others), np.inf]
    wrong, right = (len(s) - np.searchsorted(np.sort(s), thresholds) for s in (others, members))
    corners = hull(zip(wrong[::-1].tolist(), right[::-1].tolist(), strict=True))
    strict, best = 1 - 0.05 / len(corners), 0.0
    for false, true in corners:
        guesses = false + true
        if guesses and one_run_p_value(20_000, guesses, true, best, 1e-6) < 1 - strict:
            best = max(best, rejected_epsilon(20_000, guesses, true, 1e-6, strict))
    assert best == pytest.approx(epsilon, rel=1e-5)


@pytest.mark.parametrize(
    ("shift", "least", "true"), [(0, 0, 0), (1, 1.9, 4.9), (2, 4.3, 10.9), (4, 7.3, 25)]
)
def test_scores_of_known_distance(shift, least, true):
    # true: epsilon of N(shift, 1) and N(0, 1) at this delta is about shift^2 / 2 + 4.5 shift
    found = one_run_bound(normal(shift, 10_000), normal(0, 10_000), delta=1e-6)
    assert least <= found.epsilon <= true
    assert found.canaries == 20_000
    assert found.epsilon <= found.ceiling


def test_all_right_without_delta_has_a_closed_form():
    # q^100 = 0.05
    assert rejected_epsilon(100, 100, 100) == pytest.approx(3.4930, abs=5e-5)
    assert rejected_epsilon(100, 100, 50) == 0


@pytest.mark.parametrize(
    ("canaries", "ceiling"), [(50, 2.8), (100, 3.5), (200, 4.2), (500, 5.1), (1000, 5.8)]
)
def test_ceilings(canaries, ceiling):
    assert rejected_epsilon(canaries, canaries, canaries, 1e-5) == pytest.approx(ceiling, abs=0.06)
    # several numbers of guesses share the 5 %: a little less
    apart = one_run_bound(np.ones(canaries // 2), np.zeros(canaries // 2), 1e-5)
    assert apart.epsilon == apart.ceiling == one_run_ceiling(canaries, 1e-5)
    assert ceiling - 0.65 < apart.ceiling < ceiling


def test_the_p_value_by_summing_up():
    q, guesses, right, canaries, delta = 1 / (1 + np.exp(-0.7)), 30, 24, 60, 1e-3
    from scipy.stats import binom

    chance = [binom.pmf(k, guesses, q) for k in range(guesses + 1)]
    beta = sum(chance[right:])
    alpha = max(sum(chance[right - i : right]) / i for i in range(1, right + 1))
    p = one_run_p_value(canaries, guesses, right, 0.7, delta)
    assert p == pytest.approx(beta + 2 * canaries * delta * alpha)


def test_scores_that_say_nothing_are_not_accused():
    rng = np.random.default_rng(0)
    found = [one_run_bound(*rng.standard_normal((2, 100))).epsilon > 0 for _ in range(100)]
    assert sum(found) <= 5


@pytest.mark.parametrize("canaries", [24, 100, 400])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_coverage_where_epsilon_is_known(canaries, epsilon):
    """Each canary is answered truly with the chance q, as the strongest attack could see it."""
    rng, above, times = np.random.default_rng(canaries), 0, 300
    for _ in range(times):
        member = rng.random(canaries) < 0.5
        answered = rng.random(canaries) < 1 / (1 + np.exp(-epsilon))
        # how sure an answer looks has nothing to do with whether it is true
        scores = np.where(member == answered, 1, -1) * rng.random(canaries)
        above += one_run_bound(scores[member], scores[~member]).epsilon > epsilon
    assert above <= 0.05 * times + 1.65 * (0.05 * 0.95 * times) ** 0.5


def test_ties_and_faults():
    tied = one_run_bound([1.0] * 50, [1.0] * 50)
    assert (tied.epsilon, tied.right) == (0, 0)
    # 100, 50, 25 and 12 guesses, and half of them for one side alone, share the 5 %
    q = (0.05 / 8) ** (1 / 100)
    apart = one_run_bound([1.0] * 50, [0.0] * 50)
    assert apart.epsilon == pytest.approx(np.log(q / (1 - q)), abs=1e-5)
    with pytest.raises(VesaliusError, match="canaries"):
        one_run_bound([], [1.0])
    with pytest.raises(VesaliusError, match="finite"):
        one_run_bound([float("nan")], [1.0])


def test_members_without_a_trace_do_not_hide_the_others():
    members = np.r_[np.ones(150), np.zeros(100)]
    found = one_run_bound(members, np.zeros(250), 1e-5)
    assert found.epsilon > 2.5
    assert (found.guesses, found.right) == (125, 125)


def test_pairs_that_are_all_guessed_have_a_closed_form():
    # m and m / 2 guesses are tried: q^16 = 0.025
    q = 0.025 ** (1 / 16)
    found = paired_bound(np.ones(16))
    assert found.epsilon == pytest.approx(np.log(q / (1 - q)), abs=1e-5)
    assert found.ceiling == pytest.approx(found.epsilon)
    assert (found.canaries, found.guesses, found.right) == (16, 16, 16)


def test_pairs_of_known_scores():
    rng = np.random.default_rng(0)
    found = paired_bound(rng.choice([1.0, -1.0], 2000, p=[0.75, 0.25]) * rng.uniform(1, 2, 2000))
    assert 0.85 < found.epsilon < np.log(3)  # 3 of 4 right
    assert paired_bound(-np.ones(50)).epsilon == 0
    assert paired_bound(np.zeros(50)).epsilon == 0
    # only those that differ much tell anything
    some = np.r_[np.full(25, 9.0), rng.choice([1.0, -1.0], 75)]
    assert (found := paired_bound(some)).epsilon > 1.5
    assert found.guesses == 25


def test_pairs_without_a_member_are_not_accused():
    rng = np.random.default_rng(1)
    found = [paired_bound(rng.standard_normal(100), 1e-5).epsilon > 0 for _ in range(400)]
    assert sum(found) <= 20


def test_pairs_that_cannot_be_counted():
    with pytest.raises(VesaliusError, match="one pair"):
        paired_bound([])
    with pytest.raises(VesaliusError, match="finite"):
        paired_bound([1.0, float("inf")])
