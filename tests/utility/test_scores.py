import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.utility.scores import OF_CLASS, OVERALL, by_seed, predictions, score, truth_of


def values(truth, p, of=None):
    p = predictions(truth, p)
    names = OVERALL if of is None else OF_CLASS
    return {name: by_seed(name, truth, p, of).mean() for name in names}


def test_a_class_without_test_images_is_not_averaged(trial):
    truth, p = trial()
    keep = truth.positive[:, 2] == 0
    truth, p = truth.rows(keep), p[:, keep]
    assert np.isnan(values(truth, p, "lymphocyte")["auroc"])
    shown = [values(truth, p, name) for name in truth.classes[:2]]
    assert values(truth, p)["auroc"] == pytest.approx(np.mean([each["auroc"] for each in shown]))
    assert values(truth, p)["macro_f1"] == pytest.approx(np.mean([each["f1"] for each in shown]))


def test_a_finding_that_every_image_shows_has_no_auroc():
    truth = truth_of(np.array([[1, 0], [1, 1], [1, 0], [1, 1]]), ["a", "b"])
    p = np.array([[0.9, 0.1], [0.9, 0.2], [0.8, 0.7], [0.8, 0.8]])
    assert np.isnan(values(truth, p, "a")["auroc"])
    assert values(truth, p)["auroc"] == values(truth, p, "b")["auroc"] == 0.75


def test_a_weight_is_as_many_copies_of_an_image(trial):
    truth, p = trial(seeds=1)
    times = np.random.default_rng(0).integers(1, 4, len(truth))
    rows = np.repeat(np.arange(len(truth)), times)
    for name in OVERALL:
        if name != "ece":  # whose bins are those of the images without weights
            copied = score(name, truth.rows(rows), p[0, rows])
            assert score(name, truth, p[0], times[None]) == pytest.approx(copied), name


def test_predictions_of_two_folds_are_never_ranked_together():
    y = np.array([0, 1, 0, 1])
    p = np.array([0.1, 0.2, 0.8, 0.9])  # each fold ranks well, on its own scale
    assert values(truth_of(y), p)["auroc"] == 0.75
    assert values(truth_of(y, folds=np.array([0, 0, 1, 1])), p)["auroc"] == 1.0


def test_shapes_that_mean_the_same_score_the_same():
    y, p = np.array([0, 1, 1, 0]), np.array([0.2, 0.4, 0.9, 0.5])
    truth = truth_of(y)
    for same in (p, p[:, None], np.stack([1 - p, p], 1), p[None, :, None]):
        np.testing.assert_array_equal(predictions(truth, same), predictions(truth, p))


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (np.full(4, 1.5), "softmax or sigmoid"),
        (np.full((4, 2), 0.9), "add up to 1"),
        (np.full((3, 2), 0.5), "4 images"),
        (np.array([0.1, np.nan, 0.2, 0.3]), "from 0 to 1"),
    ],
)
def test_what_is_no_probability_is_refused(p, said):
    with pytest.raises(VesaliusError, match=said):
        predictions(truth_of(np.array([0, 1, 1, 0])), p)


def test_labels_and_folds_that_cannot_be_are_refused(trial):
    with pytest.raises(VesaliusError, match="from 0 to 1"):
        truth_of(np.array([0, 2]), ["a", "b"])
    with pytest.raises(VesaliusError, match="two folds"):
        truth_of(np.array([0, 1, 1]), groups=["p", "p", "q"], folds=np.array([0, 1, 1]))
    with pytest.raises(VesaliusError, match="no score 'acc'"):
        score("acc", *(each for each in (trial()[0], trial()[1][0])))
