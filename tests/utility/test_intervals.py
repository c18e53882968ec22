import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics.grouped import group_weights
from vesalius.statistics.paired import spread
from vesalius.utility.comparisons import delong
from vesalius.utility.intervals import figures, freedom, replicates, strata
from vesalius.utility.scores import by_seed, truth_of


def test_patients_are_drawn_whole_and_no_class_is_lost(trial):
    truth, _ = trial(patients=20)
    w = group_weights(strata(truth), truth.groups, 200, np.random.default_rng(0))
    np.testing.assert_array_equal(w[:, 0::2], w[:, 1::2])  # both images of a patient
    assert (w @ truth.positive > 0).all()
    np.testing.assert_allclose(w.sum(1), len(truth))


def test_strata_keep_folds_and_rare_classes_apart():
    y = np.array([0, 0, 0, 0, 1, 0, 0, 1])
    groups, folds = ["a", "b", "c", "c", "c", "d", "e", "f"], np.array([0, 0, 0, 0, 0, 1, 1, 1])
    of_group = strata(truth_of(y, groups=groups, folds=folds))
    assert of_group[0] == of_group[1] and of_group[3] == of_group[4]
    assert len(set(of_group.tolist())) == 4  # each fold: with class 1 and without


def test_the_bootstrap_s_variances_are_delong_s(trial):
    """Two ways to the same variances: draws, and structural components."""
    truth, first = trial(0.8, seed=1)
    second = trial(1.1, seed=2)[1]
    analytic = delong(truth, first, second)
    drawn = replicates(truth, [first, second], ["auroc"], times=1500)["auroc"]
    gains = by_seed("auroc", truth, second) - by_seed("auroc", truth, first)
    by_draws = spread(gains, drawn[1] - drawn[0], freedom(truth))
    assert by_draws.images == pytest.approx(analytic.images, rel=0.15)
    assert by_draws.both == pytest.approx(analytic.both, rel=0.15)
    assert by_draws.seeds == pytest.approx(analytic.seeds)
    assert by_draws.groups == analytic.groups


def test_an_accuracy_gets_the_interval_of_the_textbook():
    rng = np.random.default_rng(0)
    y, right = rng.integers(0, 2, 400), rng.random(400) < 0.8
    p = np.where(right, y, 1 - y) * 0.8 + 0.1
    figure = figures(truth_of(y), p, ["accuracy"], over="images")["accuracy"]
    error = np.sqrt(figure.value * (1 - figure.value) / 400)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert figure.details["groups"] == figure.n == 400


def test_both_is_wider_than_images_when_trainings_differ(trial):
    truth, p = trial(noise=0.0)
    uneven = p ** np.array([0.2, 0.6, 1.5, 3.0])[:, None, None]  # calibration differs by seed
    uneven = uneven / uneven.sum(-1, keepdims=True)
    width = {}
    for over in ("images", "both"):
        figure = figures(truth, uneven, ["log_loss"], over=over, times=200)["log_loss"]
        width[over] = figure.high - figure.low
    assert width["both"] > 1.5 * width["images"]


def test_copies_patient_by_patient_do_not_make_a_score_surer(trial):
    truth, p = trial(seeds=1)
    rows = np.repeat(np.arange(len(truth)), 3)
    once = figures(truth, p, ["accuracy"], times=400)["accuracy"]
    thrice = figures(truth.rows(rows), p[:, rows], ["accuracy"], times=400)["accuracy"]
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_one_seed_cannot_speak_for_other_trainings(trial):
    truth, p = trial(seeds=1)
    assert "one seed" in figures(truth, p, ["auroc"], times=50)["auroc"].note
    with pytest.raises(VesaliusError, match="needs two"):
        figures(truth, p, ["auroc"], over="seeds", times=50)


def test_a_perfect_score_is_not_certain():
    y = np.tile([0, 1], 20)
    figure = figures(truth_of(y), y * 0.8 + 0.1, ["auroc"], times=50)["auroc"]
    assert figure.value == figure.high == 1.0 and 0.8 < figure.low < 1.0
    rare = np.r_[np.zeros(300, int), np.ones(3, int)]
    found = figures(truth_of(rare), rare * 0.8 + 0.1, ["auroc", "accuracy"], times=50)
    assert found["auroc"].low == pytest.approx(0.025 ** (1 / 3))  # three patients, not 303
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / 303))


def test_a_class_of_one_patient_has_no_interval():
    """Every replicate holds him: the bootstrap would show no chance at all."""
    y = np.array([0, 1, 2] * 10)
    truth = truth_of(y, ["a", "b", "c"], ["alone" if k == 2 else n for n, k in enumerate(y)])
    p = np.random.default_rng(0).dirichlet(np.ones(3), len(y)) * 0.5 + 0.5 * np.eye(3)[y]
    found = figures(truth, p, ["auroc", "macro_f1", "accuracy"], times=50)
    assert found["auroc"].low is None and "the class c" in found["auroc"].note
    assert found["macro_f1"].low is None and found["accuracy"].low is not None
    assert figures(truth, p, ["recall"], of="c", times=50)["recall"].low is None
    assert figures(truth, p, ["recall"], of="b", times=50)["recall"].low is not None
