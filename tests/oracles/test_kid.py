"""KID against torch-fidelity's code, on its own subsets."""

import numpy as np
import pytest

from vesalius.statistics.distances import grams, kid, kid_of


def features(count: int, dimension: int, seed: int) -> np.ndarray:
    """Correlated and non-negative, as pooled ReLU activations are."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimension, dimension)) / np.sqrt(dimension)
    return np.maximum(rng.normal(size=(count, dimension)) @ mixing, 0).astype(np.float32)


def theirs(x, y, **settings) -> tuple[float, float]:
    metric = pytest.importorskip("torch_fidelity.metric_kid")
    torch = pytest.importorskip("torch")
    about = {"verbose": False, "rng_seed": 2020} | settings
    found = metric.kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), **about)
    return tuple(found.values())


@pytest.mark.parametrize("dimension", [64, 2048])
def test_whole_sets(dimension):
    x, y = features(200, dimension, 0), features(200, dimension, 1) + np.float32(0.05)
    mean, _ = theirs(x, y, kid_subsets=1, kid_subset_size=200)
    assert kid_of(grams(x, y)) == pytest.approx(mean, rel=1e-4)
    assert kid(x, y, subsets=1, size=200).mean == pytest.approx(mean, rel=1e-4)


def test_mean_and_deviation_over_the_same_subsets(monkeypatch):
    x, y = features(200, 64, 0), features(150, 64, 1)
    mean, std = theirs(x, y, kid_subsets=20, kid_subset_size=50)
    draws = np.random.RandomState(2020)

    class Theirs:
        def permutation(self, count):
            return draws.choice(count, 50, replace=False)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Theirs())
    found = kid(x, y, subsets=20, size=50)
    assert found.mean == pytest.approx(mean, rel=1e-4)
    assert found.std == pytest.approx(std, rel=1e-4)
