import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.utility.subgroups import age_band, attributes, equality


def test_a_worse_subgroup_is_found_with_its_gap(trial):
    truth, p = trial(2.0, patients=120)
    sex = np.where(truth.groups % 2, "F", "M")
    p = np.where((sex == "F")[:, None], 1 / 3, p)  # knows nothing of women
    found = equality(truth, p, "sex", sex.tolist(), name="auroc", times=200)
    women, men = found.subgroups
    assert (women.name, women.figure.n, women.figure.value) == ("F", 120, 0.5)
    assert women.difference.high < 0 < men.difference.low and men.p_corrected < 0.01
    assert found.gap == pytest.approx(men.figure.value - 0.5) and found.gap_p < 0.01
    assert 0 < found.gap_by_chance < found.gap / 2


def test_equal_subgroups_have_a_gap_by_chance_only(trial):
    truth, p = trial(1.0, patients=80)
    site = [f"site {k % 4}" for k in truth.groups]
    found = equality(truth, p, "site", site, name="accuracy", times=100)
    assert found.gap > 0 and found.gap_p > 0.05
    assert all(each.p_corrected > 0.05 for each in found.subgroups)


def test_a_small_subgroup_is_flagged_and_makes_no_gap(trial):
    truth, p = trial(patients=60)
    values = ["few" if k < 5 else "many" if k < 50 else "" for k in truth.groups]
    found = equality(truth, p, "site", values, name="accuracy", times=50)
    assert [each.flag for each in found.subgroups] == ["only 10 images", ""]
    assert found.unknown == 20 and found.gap is None and "no two subgroups" in found.note
    with pytest.raises(VesaliusError, match="no two values"):
        equality(truth, p, "site", ["one"] * len(truth))


@pytest.mark.parametrize(
    ("text", "band"),
    [("63", "40-64"), ("065Y", "65+"), ("17.0", "0-17"), ("018M", "0-17"), ("old", ""), ("", "")],
)
def test_age_bands(text, band):
    assert age_band(text) == band


def test_columns_that_divide_nothing_are_left_out():
    table = {"age": ["3", "70", ""], "sex": ["F", "unknown", "F"], "eye": ["L", "R", "L"]}
    assert attributes(table) == {"age": ["0-17", "65+", ""]}
