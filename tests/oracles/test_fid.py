"""FID against SciPy's matrix root (the definition) and against torch-fidelity's code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vesalius.models.networks.extractors import available
from vesalius.statistics.distances import fid


def features(count: int, dimension: int, seed: int) -> np.ndarray:
    """Correlated and non-negative, as pooled ReLU activations are."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimension, dimension)) / np.sqrt(dimension)
    return np.maximum(rng.normal(size=(count, dimension)) @ mixing, 0).astype(np.float32)


@pytest.mark.parametrize("counts", [(400, 300), (40, 300), (30, 25)])
def test_scipy_matrix_root(counts):
    linalg = pytest.importorskip("scipy.linalg")
    x, y = (features(n, 64, seed).astype(np.float64) for seed, n in enumerate(counts))
    covariances = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    expected = np.square(x.mean(0) - y.mean(0)).sum()
    expected += np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert fid(x, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("counts", [(400, 300), (50, 40)])
def test_torch_fidelity(counts):
    metric = pytest.importorskip("torch_fidelity.metric_fid")
    torch = pytest.importorskip("torch")
    x, y = (features(n, 64, seed) for seed, n in enumerate(counts))
    statistics = [metric.fid_features_to_statistics(torch.from_numpy(each)) for each in (x, y)]
    theirs = metric.fid_statistics_to_metric(*statistics, verbose=False)
    assert fid(x, y) == pytest.approx(next(iter(theirs.values())), rel=1e-5)


@pytest.mark.slow
def test_torch_fidelity_from_files_to_figures(tmp_path):
    # the benchmark reads one set of files by both, in a process of its own
    pytest.importorskip("torch_fidelity")
    if reason := available("inception-tf1"):
        pytest.skip(reason)
    command = [sys.executable, "-m", "benchmarks.evaluate.speed", "--n", "24"]
    root = Path(__file__).parents[2]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=root, check=True)
    document = json.loads((tmp_path / "evaluate-speed.json").read_text())
    values = document["figures"]["values"]
    for name in ("fid", "precision", "recall"):  # of KID each draws subsets of its own
        ours, theirs = values[name]
        assert ours == pytest.approx(theirs, rel=1e-3), name
