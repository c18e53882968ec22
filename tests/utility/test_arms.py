"""What each arm draws from: the counts that a report states are the images that are trained on."""

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.utility.arms import KINDS, Arm, parse_arms
from vesalius.utility.curricula import balanced, class_weights, curriculum

REAL, SYNTHETIC = np.arange(20), np.arange(20, 50)
LABELS = np.array([0] * 12 + [1] * 6 + [2] * 2 + [0, 1, 2] * 10)
TARGETS = np.eye(3)[LABELS]


def planned(kind, ratio=0.0, seed=0):
    return curriculum(Arm(kind, ratio), TARGETS, REAL, SYNTHETIC, seed, exclusive=True)


@pytest.mark.parametrize("kind", KINDS)
def test_chances_add_up_and_rows_are_the_pool_s(kind):
    made = planned(kind, 0.5)
    for phase in made.phases:
        assert phase.draw.sum() == pytest.approx(1)
        assert len(phase.rows) == len(phase.draw) == len(set(phase.rows.tolist()))
    rows = np.concatenate([phase.rows for phase in made.phases])
    assert (rows < 20).sum() == made.real and (rows >= 20).sum() == made.synthetic
    assert sum(phase.share for phase in made.phases) == 1


def test_arms_without_synthetic_images_have_none():
    for arm in parse_arms([], [1.0]):
        made = curriculum(arm, TARGETS, REAL, SYNTHETIC, 0, exclusive=True)
        assert (made.synthetic > 0) == arm.uses_synthetic


def test_oversampling_draws_every_class_equally_often():
    phase = planned("oversampled").phases[0]
    shares = [phase.draw[LABELS[phase.rows] == c].sum() for c in range(3)]
    assert shares == pytest.approx([1 / 3] * 3)


def test_an_image_of_findings_counts_for_its_rarest():
    targets = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]])
    chance = balanced(targets)
    assert chance == pytest.approx([1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 3])


def test_weights_make_classes_count_the_same():
    weights = class_weights(TARGETS[REAL], exclusive=True)
    assert weights * [12, 6, 2] == pytest.approx([20 / 3] * 3)
    findings = class_weights(np.array([[1, 0], [0, 0], [0, 0], [0, 1]]), exclusive=False)
    assert findings == pytest.approx([3, 3])  # negatives for a positive


def test_mixed_takes_a_ratio_and_says_when_the_set_is_too_small():
    assert planned("mixed", 0.5).synthetic == 10
    short = planned("mixed", 2.0)
    assert (
        short.synthetic == 30 and short.note == "40 synthetic images were asked for, the set has 30"
    )
    assert set(planned("mixed", 0.5, 0).phases[0].rows) != set(
        planned("mixed", 0.5, 1).phases[0].rows
    )


def test_minority_tops_up_to_the_largest_class_only():
    made = planned("minority")
    rows = made.phases[0].rows
    assert [int((LABELS[rows] == c).sum()) for c in range(3)] == [12, 12, 12]
    assert made.synthetic == 16 and made.note == ""
    few = curriculum(Arm("minority"), TARGETS, REAL, SYNTHETIC[:6], 0, exclusive=True)
    assert few.note.startswith("12 images short")


def test_pretraining_sees_synthetic_images_first_and_real_ones_last():
    first, last = planned("pretrained").phases
    assert (first.rows >= 20).all() and (last.rows < 20).all() and first.share == last.share == 0.5


def test_real_is_always_there_and_first():
    arms = parse_arms(["synthetic", "mixed"], [2, 0.5])
    assert [arm.name for arm in arms] == ["real", "synthetic only", "real+synthetic x0.5",
                                          "real+synthetic x2"]  # fmt: skip
    with pytest.raises(VesaliusError, match="the ratio 0 is not above 0"):
        parse_arms([], [0.0])
