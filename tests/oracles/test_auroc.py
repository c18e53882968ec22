"""AUROC and the ROC against scikit-learn's, with ties and weights."""

import numpy as np
import pytest

from vesalius.statistics.roc import roc

metrics = pytest.importorskip("sklearn.metrics")


def drawn(seed: int, levels: int | None, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.3
    scores = rng.normal(size=count) + positive
    return (scores if levels is None else np.round(scores * levels) / levels), positive


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize("seed", range(5))
def test_auroc(seed, levels):
    scores, positive = drawn(seed, levels)
    assert roc(scores, positive).area == pytest.approx(metrics.roc_auc_score(positive, scores))


@pytest.mark.parametrize("levels", [None, 2])
def test_auroc_of_weights_each_row_on_its_own(levels):
    scores, positive = drawn(0, levels)
    weights = np.random.default_rng(1).integers(0, 4, (3, len(scores)))
    theirs = [metrics.roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(roc(scores, positive, weights).area, theirs)


@pytest.mark.parametrize("levels", [None, 2])
def test_every_point_of_the_curve(levels):
    scores, positive = drawn(3, levels)
    false, true, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    curve = roc(scores, positive)
    np.testing.assert_allclose(curve.false_positives, false)
    np.testing.assert_allclose(curve.true_positives, true)
    found = max(t for f, t in zip(false, true, strict=True) if f <= 0.05)
    assert curve.found_at(0.05) == pytest.approx(found)


def test_one_against_the_rest_and_several_findings_averaged():
    """What `finding_auroc` averages is scikit-learn's macro average over the columns."""
    from vesalius.evaluate.metrics.alignment import Judged, finding_auroc

    rng = np.random.default_rng(0)
    truth = rng.random((200, 3)) < 0.4
    truth[~truth.any(1), 0] = True
    scores = rng.normal(size=truth.shape) + truth
    labels = ["|".join(name for name, has in zip("abc", row, strict=True) if has) for row in truth]
    judged = Judged(scores, labels)
    found = finding_auroc("abc", judged, judged)
    assert found.real_mean.value == pytest.approx(
        metrics.roc_auc_score(truth, scores, average="macro")
    )
