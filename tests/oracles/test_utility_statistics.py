"""Utility scores against scikit-learn; tests against statsmodels, SciPy and DeLong by brute force."""

import numpy as np
import pytest

from vesalius.statistics.corrections import corrected
from vesalius.statistics.paired import mcnemar, student_p, student_quantile, student_test
from vesalius.utility.comparisons import delong, disagreements, influences
from vesalius.utility.scores import BINS, OF_CLASS, OVERALL, by_seed, predictions, truth_of

CLOSE = 1e-9


def scores(truth, p):
    """Every score of the task, and of each class."""
    p = predictions(truth, p)
    overall = {name: float(by_seed(name, truth, p)[0]) for name in OVERALL}
    classes = [
        {name: float(by_seed(name, truth, p, of)[0]) for name in OF_CLASS} for of in truth.classes
    ]
    return overall, classes


def drawn(kind: str, count: int = 240, seed: int = 0, levels: int | None = None):
    """Labels and probabilities (N, C) that know something; `levels` makes them equal here and there."""
    rng = np.random.default_rng(seed)
    if kind == "multi-label":
        labels = (rng.random((count, 5)) < [0.5, 0.3, 0.1, 0.05, 0.9]).astype(int)
        p = 1 / (1 + np.exp(-rng.normal(size=labels.shape) - labels + 0.3))
        return labels, p if levels is None else np.round(p * levels) / levels
    classes = 2 if kind == "binary" else 4
    labels = rng.choice(classes, count, p=[0.7, 0.3] if classes == 2 else [0.6, 0.25, 0.1, 0.05])
    p = np.exp(rng.normal(size=(count, classes)) + np.eye(classes)[labels])
    p = p / p.sum(1, keepdims=True)
    if levels is not None:
        p = np.round(p * levels) + 0.5
        p = p / p.sum(1, keepdims=True)
    return labels, p


@pytest.mark.parametrize("levels", [None, 5], ids=["distinct", "ties"])
def test_binary_scores(levels):
    m = pytest.importorskip("sklearn.metrics")
    y, p = drawn("binary", levels=levels)
    ours, said = scores(truth_of(y), p)[0], p.argmax(1)
    theirs = {
        "auroc": m.roc_auc_score(y, p[:, 1]),
        "aupr": m.average_precision_score(y, p[:, 1]),
        "accuracy": m.accuracy_score(y, said),
        "balanced_accuracy": m.balanced_accuracy_score(y, said),
        "macro_f1": m.f1_score(y, said, average="macro"),
        "brier": m.brier_score_loss(y, p[:, 1]),
        "log_loss": m.log_loss(y, p),
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=CLOSE)


@pytest.mark.parametrize("levels", [None, 5], ids=["distinct", "ties"])
def test_multi_class_scores(levels):
    m = pytest.importorskip("sklearn.metrics")
    y, p = drawn("multi-class", levels=levels)
    (ours, classes), said, one_hot = scores(truth_of(y), p), p.argmax(1), np.eye(4)[y]
    theirs = {
        "auroc": m.roc_auc_score(y, p, multi_class="ovr"),
        "aupr": m.average_precision_score(one_hot, p, average="macro"),
        "accuracy": m.accuracy_score(y, said),
        "balanced_accuracy": m.balanced_accuracy_score(y, said),
        "macro_f1": m.f1_score(y, said, average="macro"),
        "brier": np.square(p - one_hot).sum(1).mean(),
        "log_loss": m.log_loss(y, p),
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=CLOSE)
    recalls, f1s = m.recall_score(y, said, average=None), m.f1_score(y, said, average=None)
    for k, each in enumerate(classes):
        of_class = {
            "auroc": m.roc_auc_score(y == k, p[:, k]),
            "aupr": m.average_precision_score(y == k, p[:, k]),
            "recall": recalls[k],
            "f1": f1s[k],
            "balanced_accuracy": m.balanced_accuracy_score(y == k, said == k),
            "brier": m.brier_score_loss(y == k, p[:, k]),
        }
        assert {name: each[name] for name in of_class} == pytest.approx(of_class, abs=CLOSE)


@pytest.mark.parametrize("levels", [None, 6], ids=["distinct", "ties"])
def test_multi_label_scores(levels):
    m = pytest.importorskip("sklearn.metrics")
    y, p = drawn("multi-label", levels=levels)
    ours, said = scores(truth_of(y), p)[0], (p >= 0.5).astype(int)
    balanced = [m.balanced_accuracy_score(y[:, k], said[:, k]) for k in range(5)]
    losses = [m.log_loss(y[:, k], p[:, k]) for k in range(5)]
    theirs = {
        "auroc": m.roc_auc_score(y, p, average="macro"),
        "aupr": m.average_precision_score(y, p, average="macro"),
        "accuracy": 1 - m.hamming_loss(y, said),
        "balanced_accuracy": np.mean(balanced),
        "macro_f1": m.f1_score(y, said, average="macro"),
        "brier": np.mean([m.brier_score_loss(y[:, k], p[:, k]) for k in range(5)]),
        "log_loss": np.mean(losses),
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=CLOSE)


def test_calibration_error_is_that_of_quantile_bins():
    calibration = pytest.importorskip("sklearn.calibration")
    y, p = drawn("binary", count=20 * BINS)  # bins of exactly 20
    frequency, mean = calibration.calibration_curve(y, p[:, 1], n_bins=BINS, strategy="quantile")
    assert scores(truth_of(y), p)[0]["ece"] == pytest.approx(np.abs(frequency - mean).mean())


def delong_by_hand(y, a, b):
    """DeLong et al. 1988 by comparing every positive with every negative."""

    def parts(s):
        wins = (s[y][:, None] > s[~y]) + 0.5 * (s[y][:, None] == s[~y])
        return wins.mean(1), wins.mean(0)

    (a10, a01), (b10, b01) = parts(a), parts(b)
    covariance = np.cov(a10, b10) / y.sum() + np.cov(a01, b01) / (~y).sum()
    contrast = np.array([-1, 1])
    return b10.mean() - a10.mean(), contrast @ covariance @ contrast


@pytest.mark.parametrize("levels", [None, 4], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", range(3))
def test_delong_is_the_textbook_s(seed, levels):
    norm = pytest.importorskip("scipy.stats").norm
    y, first = drawn("binary", 90, seed, levels)
    second = drawn("binary", 90, seed, levels)[1][::-1].copy()
    truth = truth_of(y)
    arms = [predictions(truth, each) for each in (first, second)]
    ours, areas = delong(truth, *arms), [influences(truth, each)[0] for each in arms]
    difference, variance = delong_by_hand(y == 1, first[:, 1], second[:, 1])
    assert areas[1] - areas[0] == pytest.approx(difference, abs=CLOSE)
    assert ours.images == pytest.approx(variance, abs=CLOSE)
    p = student_test(difference, ours.images, np.inf).p
    assert p == pytest.approx(2 * norm.sf(abs(difference) / variance**0.5), abs=CLOSE)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 11), (11, 3), (7, 7), (80, 120)])
def test_mcnemar(b, c):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    if b + c:  # theirs has no p for none
        theirs = tables.mcnemar([[40, b], [c, 9]], exact=True).pvalue
        assert mcnemar(b, c)[0] == pytest.approx(theirs, abs=CLOSE)
    y = np.tile([0, 1], 100 + b + c)[: 100 + b + c]
    first, second = y.copy(), y.copy()
    first[b : b + c] = 1 - y[b : b + c]  # only the second is right
    second[:b] = 1 - y[:b]
    truth = truth_of(y)
    arms = (predictions(truth, each.astype(float)) for each in (first, second))
    assert disagreements(truth, *arms) == (b, c)


@pytest.mark.parametrize(("b", "c"), [(1, 0), (3, 11), (7, 7), (80, 120)])
def test_mid_p(b, c):
    binom = pytest.importorskip("scipy.stats").binom
    theirs = 2 * binom.cdf(min(b, c), b + c, 0.5) - binom.pmf(min(b, c), b + c, 0.5)
    assert mcnemar(b, c)[1] == pytest.approx(min(1, theirs), abs=CLOSE)


@pytest.mark.parametrize(("ours", "theirs"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_corrections(ours, theirs):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = [*np.random.default_rng(0).random(12) ** 3, 0.01, 0.01]
    np.testing.assert_allclose(corrected(p, ours), multitest.multipletests(p, method=theirs)[1])


@pytest.mark.parametrize("freedom", [1, 2, 3.7, 4, 30, 5000])
def test_student(freedom):
    law = pytest.importorskip("scipy.stats").t(freedom)
    for t in (-1.0, 0.0, 0.5, 2.0, 9.0):
        assert student_p(t, freedom) == pytest.approx(2 * law.sf(abs(t)), rel=1e-8)
    assert student_quantile(0.975, freedom) == pytest.approx(law.ppf(0.975), rel=1e-8)
