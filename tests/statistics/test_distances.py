import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.errors import VesaliusError
from vesalius.statistics import distances as fidelity_module
from vesalius.statistics.distances import (
    fid,
    fid_of,
    gram_overlap,
    grams,
    kid,
    kid_of,
    mmd_and_prdc,
    prdc,
    prdc_of,
    root_trace,
    within,
)


def both(x, y):
    return mmd_and_prdc((x, y), (within(x), within(y)))


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
    assert gram_overlap(a, b) == pytest.approx(root_trace(a.T @ a, b.T @ b), rel=1e-6)


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


@pytest.mark.parametrize("counts", [(5, 40), (40, 30)])
def test_inner_products_are_enough_for_every_figure(counts):
    x, y = sample((counts[0], 16), 0), sample((counts[1], 16), 1)
    g = grams(x, y)
    assert fid_of(g) == pytest.approx(fid(x, y), rel=1e-9)
    assert prdc_of(g, 3) == prdc(x, y, 3)
    rows = np.array([3, 1, 1]), np.array([7, 0, 2, 2])
    assert fid_of(g.take(*rows)) == pytest.approx(fid(x[rows[0]], y[rows[1]]), rel=1e-9)


def test_kid_is_unbiased_and_its_subsets_differ():
    rng = np.random.default_rng(0)
    same = [kid_of(grams(rng.normal(size=(20, 8)), rng.normal(size=(20, 8)))) for _ in range(300)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(300)
    x, y = rng.normal(size=(200, 8)), rng.normal(size=(200, 8)) + 1
    found = kid(x, y)
    assert found.size == 100  # not the whole set, whose deviation would be nothing
    assert found.std > 0
    assert found.mean == pytest.approx(kid_of(grams(x, y)), rel=0.1)


def test_both_ways_to_sum_subsets_agree():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 8)), rng.normal(size=(50, 8)) + 1
    at_once = kid(x, y, subsets=30, size=20)
    one_by_one = kid(x, y, subsets=2, size=20)  # fewer products this way
    rows = np.random.default_rng(0)
    draws = [(rows.permutation(60)[:20], rows.permutation(50)[:20]) for _ in range(30)]
    direct = [kid_of(grams(x[i], y[j])) for i, j in draws]
    assert at_once.mean == pytest.approx(np.mean(direct), rel=1e-9)
    assert at_once.std == pytest.approx(np.std(direct), rel=1e-9)
    assert one_by_one.mean == pytest.approx(np.mean(direct[:2]), rel=1e-9)


def test_prdc_in_blocks_is_prdc(monkeypatch):
    x, y = sample((50, 4), 0), sample((70, 4), 1)
    whole = prdc(x, y)
    monkeypatch.setattr(fidelity_module, "_BLOCK", 16)
    assert prdc(x, y) == whole


def test_every_figure_in_blocks_is_the_same(monkeypatch):
    for x, y in (
        (sample((50, 4), 0), sample((70, 4), 1)),
        (sample((9, 30), 0), sample((70, 30), 1)),
    ):
        whole = fid(x, y), prdc(x, y), kid_of(grams(x, y))
        with monkeypatch.context() as patch:
            patch.setattr(fidelity_module, "_HELD", 100)
            assert fid(x, y) == pytest.approx(whole[0], rel=1e-9)
            assert prdc(x, y) == whole[1]
            assert both(x, y)[0] == pytest.approx(whole[2], rel=1e-9)
            assert both(x, y)[1] == whole[1]


def test_features_of_single_precision_are_compared_in_double():
    x, y = (1000 + sample(shape, seed) for shape, seed in (((50, 4), 0), ((70, 4), 1)))
    x, y = x.astype(np.float32), y.astype(np.float32)
    double = x.astype(np.float64), y.astype(np.float64)
    for figure in (fid, both, prdc, kid):
        assert figure(x, y) == figure(*double)


@pytest.mark.parametrize("figure", [fid, both, prdc])
def test_memory_does_not_grow_with_the_square_of_the_images(figure, monkeypatch):
    x, y = sample((3000, 8), 0), sample((3000, 8), 1)  # all distances would be 72 MB
    monkeypatch.setattr(fidelity_module, "_HELD", 2**17)
    tracemalloc.start()
    figure(x, y)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


def test_precision_and_recall_tell_fewer_kinds_from_poor_images():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 4))
    real[:150, 0] += 30  # two kinds
    one_kind = rng.normal(size=(300, 4))
    found = prdc(real, one_kind)
    assert found.precision > 0.9 and found.recall < 0.6 and found.coverage < 0.6
    elsewhere = prdc(real, real + 500)
    assert elsewhere.precision == elsewhere.recall == elsewhere.density == elsewhere.coverage == 0


def test_too_few_for_a_subset_or_neighbours_is_told():
    x = np.zeros((4, 3))
    with pytest.raises(VesaliusError, match="subsets of 10"):
        kid(x, x, size=10)
    with pytest.raises(VesaliusError, match="at least 6"):
        prdc(x, x)
