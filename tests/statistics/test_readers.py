import csv
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.readers import Readings, auc, means, over_readers, readings

VAN_DYKE = Path(__file__).parents[3] / "shared" / "data" / "readers" / "van_dyke.csv"
TABLE = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
POSITIVE = np.ones(4, bool)


@pytest.fixture(scope="module")
def treatments() -> list[Readings]:
    if not VAN_DYKE.exists():
        pytest.skip("shared/data/readers, the published table, is not here")
    with VAN_DYKE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        readings(
            (row["reader"], row["case"], row["truth"] == "1", float(row["rating"]))
            for row in rows
            if row["treatment"] == treatment
        )
        for treatment in "01"
    ]


def close(estimate, value, se, df, low, high):
    found = (estimate.value, estimate.se, estimate.low, estimate.high)
    assert found == pytest.approx((value, se, low, high), abs=1e-7)
    assert estimate.df == pytest.approx(df, abs=1e-5)


def test_the_published_auc_of_each_treatment(treatments):
    first, second = (over_readers(auc(each)) for each in treatments)
    close(first, 0.8970370, 0.03307642, 12.59597, 0.8253461, 0.9687280)
    close(second, 0.9408374, 0.02150464, 12.56530, 0.8942155, 0.9874592)
    assert first.scope == "readers and cases" and not first.notes


def test_the_published_difference_of_two_treatments(treatments):
    first, second = map(auc, treatments)
    difference = over_readers(first - second)
    close(difference, -0.04380032, 0.0206825, 15.06611, -0.0878672, 0.0002666)
    f = (difference.value / difference.se) ** 2
    assert f == pytest.approx(4.484854, abs=1e-6)
    assert difference.p() == pytest.approx(0.05123303, abs=1e-8)


def test_the_published_auc_of_fixed_readers(treatments):
    found = over_readers(auc(treatments[0], jackknife=True), "these readers only")
    close(found, 0.8970370, 0.02428971, math.inf, 0.8494301, 0.9446440)


def test_the_published_sensitivity(treatments):
    said = treatments[0].decisions(3)
    found = over_readers(means(said, (0, 1)))
    close(found, 0.8222222, 0.05893747, 14.456811, 0.6961876, 0.9482568)
    jackknife = over_readers(means(said, (0, 1), jackknife=True))
    assert jackknife.se == pytest.approx(0.0591293, abs=1e-7)


def test_pooled_decisions_would_seem_too_sure(treatments):
    right = treatments[0].correct(3)
    pooled = right.answers.mean()
    naive = math.sqrt(pooled * (1 - pooled) / right.answers.size)
    assert naive == pytest.approx(0.0153, abs=5e-5)
    assert over_readers(means(right)).se == pytest.approx(0.0319, abs=5e-5)


def test_a_proportion_by_hand():
    """t = 3/4, 1/2, 1/4; MS(R) = 1/16; V = 5/72; Cov2 = 5/144."""
    figures = means(Readings(TABLE, POSITIVE), (0, 1))
    found = over_readers(figures)
    assert figures.values.tolist() == [0.75, 0.5, 0.25]
    assert found.se**2 == pytest.approx(1 / 18)
    assert found.df == pytest.approx(512 / 36)
    fixed = over_readers(figures, "these readers only")
    assert fixed.se**2 == pytest.approx(5 / 108) and fixed.df == math.inf


def test_an_auc_by_hand():
    """Positives 2 and 3 over negatives 1 and 2: V10 = 3/4, 1; V01 = 1, 3/4."""
    figures = auc(Readings([[2, 3, 1, 2]], [True, True, False, False]))
    found = over_readers(figures)
    assert found.value == 0.875 and found.se**2 == pytest.approx(1 / 32)
    assert found.scope == "these readers only"


def test_an_accuracy_weighs_the_arms():
    right = Readings([[1, 1, 0, 1, 0, 0]] * 2, [True] * 2 + [False] * 4)
    assert means(right).values == pytest.approx([0.5] * 2)
    assert means(right, (0.5, 0.5)).values == pytest.approx([0.625] * 2)


def test_two_readers_are_these_readers_only():
    figures = means(Readings(TABLE[:2], POSITIVE), (0, 1))
    assert over_readers(figures).scope == "these readers only"
    with pytest.raises(VesaliusError, match="three"):
        over_readers(figures, "readers and cases")


def test_missing_answers_count_for_what_was_judged():
    """A reader's figure is of the own cases; readers covary by the cases that both judged."""
    answers = TABLE.astype(float)
    answers[2, 3] = math.nan
    figures = means(Readings(answers, POSITIVE), (0, 1))
    assert figures.values == pytest.approx([0.75, 0.5, 1 / 3])
    found = over_readers(figures)
    assert "3 to 4 of 4" in found.notes[0]
    apart = np.full((3, 12), math.nan)
    for row, answer in enumerate(TABLE):
        apart[row, 4 * row : 4 * row + 4] = answer
    nobody_shares = means(Readings(apart, np.ones(12, bool)), (0, 1))
    covariance = nobody_shares.parts @ nobody_shares.parts.T
    assert np.count_nonzero(covariance - np.diag(covariance.diagonal())) == 0


def test_the_error_of_a_mean_over_incomplete_cases_is_right():
    """Against many draws: two of four readers judge each case, and hard cases are hard for all."""
    rng = np.random.default_rng(0)
    found, errors = [], []
    judged = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]] * 15, bool).T
    for _ in range(1500):
        latent = rng.normal(size=60) + 0.7 * rng.normal(size=(4, 60)) + 0.5
        answers = np.where(judged, latent > 0, math.nan)
        estimate = over_readers(means(Readings(answers, np.ones(60, bool)), (0, 1)), None)
        found.append(estimate.value)
        errors.append(estimate.se**2)
    assert np.mean(errors) == pytest.approx(np.var(found), rel=0.15)


def test_a_reader_with_too_few_cases_is_left_out_and_named():
    answers = np.array([*TABLE.tolist(), [1, math.nan, math.nan, math.nan]])
    found = over_readers(means(Readings(answers, POSITIVE, ("a", "b", "c", "d")), (0, 1)))
    assert found.readers == 3 and "d" in found.notes[0]
    assert math.isnan(found.by_reader["d"])
    with pytest.raises(VesaliusError, match="two cases"):
        over_readers(auc(Readings(answers, POSITIVE)))


def test_a_difference_between_arms_is_of_different_cases():
    answers = np.array([[1, 1, 1, 0, 1, 0], [1, 0, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0]])
    table = Readings(answers, [True] * 3 + [False] * 3)
    positive, negative = means(table, (0, 1)), means(table, (1, 0))
    difference = positive - negative
    both = positive.errors**2 + negative.errors**2
    assert difference.errors**2 == pytest.approx(both)
    assert difference.bounds == (-1, 1)
    assert over_readers(difference).cases == 6


def test_where_nothing_varies_the_interval_is_the_exact_bound():
    found = over_readers(means(Readings(np.ones((3, 20)), np.ones(20, bool)), (0, 1)))
    assert (found.low, found.high) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert math.isnan(found.p(0.5))


def test_readers_alike_by_chance_do_not_make_a_figure_certain():
    answers = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]])
    found = over_readers(means(Readings(answers, POSITIVE), (0, 1)))
    assert found.se > 0 and "alike" in found.notes[0]


def test_rows_in_any_order_make_the_same_table():
    rows = [(r, c, c < 2, float(r) + c) for r in "12" for c in range(4)]
    table = readings(rows)
    assert table.readers == ("1", "2") and table.answers.shape == (2, 4)
    again = readings(reversed(rows))
    assert over_readers(auc(again)).value == over_readers(auc(table)).value
    with pytest.raises(VesaliusError, match="two answers"):
        readings([*rows, rows[0]])
    with pytest.raises(VesaliusError, match="negative"):
        readings([*rows, ("3", 0, False, 1.0)])


def test_more_cases_give_a_shorter_interval():
    rng = np.random.default_rng(1)
    widths = []
    for cases in (40, 160, 640):
        right = rng.random((5, cases)) < 0.7
        found = over_readers(means(Readings(right, np.ones(cases, bool)), (0, 1)))
        widths.append(found.high - found.low)
    assert all(wide > narrow for wide, narrow in pairwise(widths))


def test_a_claim_of_sameness_is_never_surer_of_readers_in_general_than_of_these():
    rng = np.random.default_rng(2)
    bound = 0
    for _ in range(50):
        figures = means(Readings(rng.random((3, 40)) < 0.5, np.ones(40, bool)), (0, 1))
        found, fixed = over_readers(figures), over_readers(figures, "these readers only")
        assert found.cautious().se >= max(found.se, fixed.se) - 1e-12
        bound += found.cautious().se > found.se
    assert 0 < bound < 50
    assert fixed.cautious() == fixed
