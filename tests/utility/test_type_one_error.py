"""The comparison of arms calls no gain that is not there; the ways that take a chance for fixed do."""

import pytest
from benchmarks.evaluate.type_one_error import Simulated, asked, rates, wilson

TESTS = {over: asked(over) for over in ("both", "images", "seeds")}


@pytest.mark.parametrize(
    ("law", "trapped"),
    [
        (Simulated(patients=80, quality=0.5), "images"),  # trainings differ, recipes do not
        (Simulated(patients=80, quality=0.0, view=0.6), "seeds"),  # recipes see images differently
    ],
    ids=["uneven trainings", "two recipes"],
)
def test_equal_arms_are_called_different_only_by_who_takes_a_chance_for_fixed(law, trapped):
    found = rates(law, TESTS, times=60)
    assert found["both"]["wilson"][0] <= 0.05
    assert found[trapped]["wilson"][0] > 0.1


def test_a_true_gain_is_found():
    law = Simulated(patients=80, gain=1.0)
    assert law.auroc(1) - law.auroc(0) > 0.05
    found = rates(law, {"both": TESTS["both"]}, times=30)["both"]
    assert found["gain_called"] == found["rejected"] > 0.8


def test_wilson_is_the_textbook_s():
    assert wilson(10, 200) == pytest.approx((0.0274, 0.0896), abs=1e-4)
    assert wilson(0, 200)[0] == 0
