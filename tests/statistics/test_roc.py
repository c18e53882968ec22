import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.roc import detection, group_codes, roc


def test_equal_scores_count_half_and_few_false_alarms_find_what_they_find():
    curve = roc(np.array([3.0, 2, 2, 1, 1, 0]), np.array([1, 1, 0, 0, 1, 0], bool))
    assert float(curve.area) == pytest.approx((3 + 2.5 + 1.5) / 9)
    assert float(curve.found_at(0.0)) == pytest.approx(1 / 3)
    assert float(curve.found_at(1 / 3)) == pytest.approx(2 / 3)
    lacking = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1]])
    several = roc(np.array([3.0, 2, 2, 1, 1, 0]), np.array([1, 1, 0, 0, 1, 0], bool), lacking)
    found = several.found_at(0.01)
    assert found[0] == pytest.approx(1 / 3) and np.isnan(found[1:]).all()  # 0 would be a figure


def test_a_patient_of_many_images_widens_the_interval():
    rng = np.random.default_rng(0)
    positive = np.repeat(np.arange(40) < 20, 5)
    scores = np.repeat(rng.normal(size=40), 5) + positive
    patients = np.repeat(np.arange(40), 5).tolist()
    blind, aware = (detection(scores, positive, groups).auroc for groups in (None, patients))
    assert aware.value == blind.value
    assert aware.high - aware.low > 1.5 * (blind.high - blind.low)


@pytest.mark.parametrize("images", [1, 6])
def test_one_patient_with_a_finding_gives_no_interval(images):
    """He is in every replicate: of other patients with the finding nothing is known."""
    rng = np.random.default_rng(0)
    positive = np.arange(100) < images
    scores = rng.normal(size=100) + positive
    groups = ["p" if own else k for k, own in enumerate(positive)]
    found = detection(scores, positive, groups)
    assert found.auroc.value is not None and found.auroc.low is None
    assert "one patient" in found.auroc.note
    perfect = detection(positive * 1.0, positive, groups).auroc
    assert (perfect.low, perfect.high) == (pytest.approx(0.025), 1.0)  # of one trial


def test_images_without_a_group_are_their_own():
    assert group_codes(["a", "", "a", None, ""], 5).tolist() == [0, 1, 0, 2, 3]
    assert group_codes(None, 3).tolist() == [0, 1, 2]
    with pytest.raises(VesaliusError, match="2 groups for 3 images"):
        group_codes(["a", "b"], 3)


@pytest.mark.parametrize(
    ("scores", "positive", "said"),
    [([1.0, np.nan], [True, False], "NaN"), ([1.0, 2.0], [True, True], "needs positives")],
)
def test_what_has_no_curve_is_refused(scores, positive, said):
    with pytest.raises(VesaliusError, match=said):
        detection(np.array(scores), np.array(positive))
