import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.corrections import corrected
from vesalius.statistics.paired import mcnemar, over_folds
from vesalius.utility.comparisons import compare, compare_folds, delong, permutation
from vesalius.utility.scores import truth_of


@pytest.fixture
def arms(trial):
    truth, first = trial(0.6, seed=1)
    named = {"real": first, "better": trial(2.0, seed=2)[1], "alike": trial(0.6, seed=3)[1]}
    return truth, named


@pytest.mark.parametrize("name", ["auroc", "balanced_accuracy"])
def test_a_gain_is_found_and_an_equal_arm_is_not(arms, name):
    better, alike = compare(*arms, "real", names=[name], times=300)
    assert better.second == "better" and better.low > 0 and better.p_corrected < 0.001
    assert alike.low < 0 < alike.high and alike.p > 0.05
    assert (better.n, better.groups, better.seeds, better.over) == (120, 60, 4, "both")
    assert better.p_corrected >= better.p


def test_p_and_interval_agree(arms):
    for each in compare(*arms, "real", names=["auroc", "brier", "macro_f1"], times=200):
        assert (each.low <= 0 <= each.high) == (each.p >= 0.05)


def test_the_same_predictions_are_no_gain(arms):
    truth, named = arms
    same = {"real": named["real"], "copy": named["real"].copy()}
    for result in compare(truth, same, "real", names=["auroc", "accuracy"], times=50):
        assert result.difference == 0 and result.p == 1
    assert permutation(truth, same["real"], same["copy"], "accuracy", times=50) == 1


def test_permutation_finds_what_the_bootstrap_finds(arms):
    better, alike = compare(
        *arms, "real", names=["accuracy"], over="images", test="permutation", times=400
    )
    assert better.p < 0.01 and alike.p > 0.05
    assert better.p >= 1 / 401


def test_permutation_swaps_patients_whole():
    """One patient's ten images are one throw of a coin: they cannot make a gain certain."""
    truth = truth_of(np.tile([0, 1], 5), groups=["p"] * 10)
    first, second = (
        np.stack([np.stack([1 - p, p], 1)]) for p in (np.full(10, 0.4), np.full(10, 0.6))
    )
    second[0, :, 1] = truth.positive[:, 1] * 0.8 + 0.1
    second[0, :, 0] = 1 - second[0, :, 1]
    assert permutation(truth, first, second, "accuracy", times=99) == 1


def test_a_lucky_seed_is_no_better_recipe(trial):
    """The trap: over images alone, an arm whose one good training stands out is called better."""
    truth, dull = trial(0.6, seed=1)
    lucky = np.concatenate([trial(3.0, seed=2)[1][:1], trial(0.6, seed=3)[1][1:]])
    arms = {"real": dull, "lucky": lucky}
    assert compare(truth, arms, "real", over="images")[0].p < 0.05
    assert compare(truth, arms, "real")[0].p > 0.05


def test_mcnemar_is_refused_where_images_are_not_independent(arms):
    with pytest.raises(VesaliusError, match="permutation test"):
        compare(*arms, "real", names=["accuracy"], over="images", test="mcnemar", times=50)


def test_mcnemar_of_the_mean_of_seeds(arms):
    truth, named = arms
    alone = truth_of(truth.positive.argmax(1), truth.classes)
    better = compare(
        alone, named, "real", names=["accuracy"], over="images", test="mcnemar", times=50
    )[0]
    assert better.p < 0.05 and "ensemble" in better.note
    assert mcnemar(0, 5) == pytest.approx((2 / 32, 1 / 32))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"against": "none"}, "no arm 'none'"),
        ({"against": "real", "test": "permutation"}, "over images"),
        ({"against": "real", "test": "delong", "names": ["accuracy"]}, "cannot compare accuracy"),
    ],
)
def test_what_cannot_be_asked_is_refused(arms, options, said):
    with pytest.raises(VesaliusError, match=said):
        compare(*arms, **options)


def test_unequal_seeds_are_refused(arms):
    truth, named = arms
    with pytest.raises(VesaliusError, match="real 4, better 3"):
        compare(truth, {"real": named["real"], "better": named["better"][:3]}, "real")


def test_a_class_of_one_patient_leaves_no_false_certainty():
    truth = truth_of(np.array([0, 1]), groups=["p", "q"])
    result = compare(truth, {"a": np.array([0.6, 0.4]), "b": np.array([0.4, 0.6])}, "a")[0]
    assert result.difference == 1 and result.p is None and "one test patient" in result.note


@pytest.mark.parametrize("images", [1, 20])
def test_one_positive_patient_among_many_proves_nothing(images):
    """His images rank higher in one arm: of other positive patients that says nothing."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [300, images])
    truth = truth_of(y, groups=[*range(300), *["p"] * images])
    low, high = (
        np.stack([np.where(y, at, rng.random(len(y))) for _ in range(4)]) for at in (0.6, 0.9)
    )
    pair = [np.stack([1 - p, p], axis=-1) for p in (low, high)]
    for name in ("auroc", "balanced_accuracy"):
        result = compare(truth, dict(zip("ab", pair, strict=True)), "a", names=[name], times=50)[0]
        assert result.p is None and result.low is None and "one test patient" in result.note
    result = compare(truth, dict(zip("ab", pair, strict=True)), "a", names=["brier"], times=50)[0]
    assert result.p is not None


def test_few_patients_of_many_images_widen_delong_s_interval(trial):
    """The mean of I patients has the variance s^2 / I, s^2 with I - 1, however many images they have."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    y = (groups < 3).astype(int)  # three positive patients
    score = rng.normal(size=40)[groups] + y
    first, second = (
        np.stack([np.stack([1 - p, p], -1)]) for p in (np.full(400, 0.5), 1 / (1 + np.exp(-score)))
    )
    truth = truth_of(y, groups=groups.tolist())
    below = (score[y == 1][:, None] > score[y == 0]).mean(1)  # V10 of each positive image
    above = (score[y == 1][:, None] > score[y == 0]).mean(0)
    patients = below[::10].var(ddof=1) / 3 + above[::10].var(ddof=1) / 37
    assert delong(truth, first, second).images == pytest.approx(patients)


def test_folds_that_share_training_images_are_not_independent():
    gains = np.array([[0.01, 0.03, 0.02, 0.0, 0.04]])
    mean, variance, degrees = over_folds(gains, test_share=0.25)
    assert (mean, degrees) == (pytest.approx(0.02), 4)
    assert variance == pytest.approx((1 / 5 + 1 / 4) * gains.var(ddof=1))
    truth = truth_of(np.tile([0, 1], 50), folds=np.repeat(np.arange(5), 20))
    found, same = compare_folds(
        truth, {"mixed": gains, "copy": 0 * gains}, "real", "auroc", test_share=0.25
    )
    assert same.p == 1 and found.p_corrected == 2 * found.p
    assert found.low < 0.02 < found.high and found.p > 0.05  # an uncorrected t test says 0.047
    assert over_folds(np.repeat(gains, 5, axis=0), 0.25) == (
        mean,
        variance,
        degrees,
    )  # no more folds


def test_a_fold_without_a_score_is_no_gain():
    truth = truth_of(np.tile([0, 1], 10), folds=np.repeat([0, 1], 10))
    result = compare_folds(
        truth, {"mixed": np.array([[0.1, np.nan]])}, "real", "auroc", test_share=1
    )[0]
    assert result.p is None and result.difference is None and "no image" in result.note


def test_a_test_that_could_not_be_made_is_not_counted():
    assert corrected([0.01, None, 0.04]) == [0.02, None, 0.04]
