"""The regression is scikit-learn's, and scores are of rows that it has not seen."""

import numpy as np
import pytest

from vesalius.statistics.logistic import cross_validated, logistic
from vesalius.statistics.roc import roc


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4))
    positive = x @ [1.0, -2, 0, 0.5] + rng.logistic(size=80) + 0.7 > 0
    return x, positive


@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
def test_weights_are_those_of_scikit_learn(data, l2):
    linear = pytest.importorskip("sklearn.linear_model")
    x, positive = data
    model = linear.LogisticRegression(C=1 / l2, tol=1e-10, max_iter=1000).fit(x, positive)
    expected = [*model.coef_[0], model.intercept_[0]]
    np.testing.assert_allclose(logistic(x, positive, l2), expected, atol=1e-4)


def test_separable_data_have_finite_weights():
    x = np.array([[-1.0], [-0.5], [0.5], [1.0]])
    weights = logistic(x, np.array([False, False, True, True]), 1e-3)
    assert np.isfinite(weights).all()
    assert weights[0] > 3


def test_scores_are_of_groups_that_were_not_seen(data):
    x, positive = data
    rng = np.random.default_rng(1)
    scores = cross_validated(x, positive, np.arange(80), 5, rng)
    assert roc(scores, positive).area > 0.8
    # an identity that is shared within a group tells nothing of other groups
    groups = np.repeat(np.arange(40), 2)
    by_heart = np.eye(40)[groups]
    arms = rng.permuted(np.tile([False, True], (40, 1)), axis=1).ravel()
    scores = cross_validated(by_heart, arms, groups, 5, rng)
    assert abs(float(roc(scores, arms).area) - 0.5) < 0.2


def test_a_constant_column_tells_nothing(data):
    x, positive = data
    wide = np.column_stack([x, np.full(80, 1e9)])
    scores = [
        cross_validated(v, positive, np.arange(80), 4, np.random.default_rng(2)) for v in (x, wide)
    ]
    np.testing.assert_allclose(*scores)
