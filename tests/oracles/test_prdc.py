"""Precision and recall against torch-fidelity's code, density and coverage against their formulas."""

import numpy as np
import pytest

from vesalius.statistics.distances import prdc


def two_sets(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, dimension)).astype(np.float32)
    return real, (0.9 * rng.normal(size=(150, dimension)) + 0.1).astype(np.float32)


@pytest.mark.parametrize("dimension", [4, 64, 2048])
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("save_memory", [True, False])
def test_torch_fidelity(dimension, k, save_memory):
    metric = pytest.importorskip("torch_fidelity.metric_prc")
    torch = pytest.importorskip("torch")
    real, fake = two_sets(dimension)
    theirs = metric.prc_features_to_metric(
        torch.from_numpy(fake),
        torch.from_numpy(real),
        prc_neighborhood=k,
        prc_batch_size=64,
        save_cpu_ram=save_memory,
        verbose=False,
    )
    ours = prdc(real, fake, k)
    assert ours.precision == pytest.approx(theirs["precision"], rel=1e-4)
    assert ours.recall == pytest.approx(theirs["recall"], rel=1e-4)


@pytest.mark.parametrize("k", [3, 5])
def test_naeems_formulas(k):
    # https://github.com/clovaai/generative-evaluation-prdc, prdc.py, by the paper's equations
    real, fake = two_sets(4)
    distance = np.linalg.norm(real[:, None] - fake[None], axis=2)
    within = np.linalg.norm(real[:, None] - real[None], axis=2)
    radius = np.sort(within, axis=1)[:, k]
    ours = prdc(real, fake, k)
    assert ours.density == pytest.approx((distance < radius[:, None]).sum(0).mean() / k)
    assert ours.coverage == pytest.approx((distance.min(1) < radius).mean())
