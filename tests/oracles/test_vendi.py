"""The Vendi score against its definition, spelt out."""

import numpy as np
import pytest

from vesalius.evaluate.metrics.diversity import vendi


@pytest.mark.parametrize("shape", [(12, 30), (60, 8)])
def test_definition(shape):
    # Friedman and Dieng 2023, definition 3.1, with scipy's entropy as in their code
    stats = pytest.importorskip("scipy.stats")
    linalg = pytest.importorskip("scipy.linalg")
    x = np.random.default_rng(0).normal(size=shape)
    kernel = np.array([[a @ b / np.sqrt(a @ a * (b @ b)) for b in x] for a in x])
    values = linalg.eigvalsh(kernel / len(x)).clip(min=0)
    assert vendi(x) == pytest.approx(np.exp(stats.entropy(values)), rel=1e-6)
