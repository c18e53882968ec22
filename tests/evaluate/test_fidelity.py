import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.evaluate.fidelity import eigen_overlap, fid, gram_overlap, halves_fid

# both sides of the switch between the Gram form and the eigendecomposition
SHAPES = [(12, 30), (60, 8)]


def sample(shape: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) + rng.normal(
        size=shape[1]
    )


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_identical_sets_are_at_zero(shape, seed):
    x = sample(shape, seed)
    assert abs(fid(x, x)) < 1e-6 * np.square(x).sum()


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_symmetric_and_not_negative(shape, seed):
    x, y = sample(shape, seed), sample(shape, seed + 1)
    assert fid(x, y) == pytest.approx(fid(y, x), rel=1e-6)
    assert fid(x, y) > -1e-6


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=st.integers(0, 2**32 - 1), length=st.floats(0.1, 100))
@settings(max_examples=25, deadline=None)
def test_shift_costs_its_squared_length(shape, seed, length):
    x = sample(shape, seed)
    step = np.random.default_rng(seed).normal(size=shape[1])
    step *= length / np.linalg.norm(step)
    assert fid(x, x + step) == pytest.approx(length**2, rel=1e-6, abs=1e-6 * np.square(x).sum())


@pytest.mark.parametrize("shape", SHAPES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_rotation_changes_nothing(shape, seed):
    x, y = sample(shape, seed), sample(shape, seed + 1)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(shape[1], shape[1])))
    assert fid(x @ rotation, y @ rotation) == pytest.approx(fid(x, y), rel=1e-6)


def test_scaling_one_dimension_is_known_in_closed_form():
    # N(0, s^2) against N(0, t^2) is (s - t)^2
    x = np.array([[-1.0], [1.0]])
    assert fid(3 * x, 5 * x) == pytest.approx(2 * (5 - 3) ** 2)


@pytest.mark.parametrize("counts", [(5, 40), (40, 5), (5, 5), (40, 40)])
def test_both_forms_agree(counts):
    a, b = sample((counts[0], 16), 0), sample((counts[1], 16), 1)
    assert gram_overlap(a, b) == pytest.approx(eigen_overlap(a, b), rel=1e-6)


def test_halves_come_from_one_distribution():
    x = np.random.default_rng(0).normal(size=(4000, 4))
    assert 0 <= halves_fid(x) < 0.02
    assert halves_fid(x, seed=1) == halves_fid(x, seed=1)


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "at least 2"),
        (np.zeros((4, 3)), np.zeros((4, 5)), "do not compare"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "NaN"),
    ],
)
def test_bad_features_are_refused(x, y, word):
    with pytest.raises(VesaliusError, match=word):
        fid(x, y)
