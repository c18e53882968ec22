"""The three risks: right by hand, near 0 where nothing was learnt, and found where it was."""

import tracemalloc

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.statistics import anonymity as module
from vesalius.statistics.anonymity import Rates, closest, gain, nearest, risk, singling_out


def people(count, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width))


def alone(x, made):
    return nearest(made, x, [[k] for k in range(len(x))])


def test_gain():
    assert gain(0.5, 0.5) == 0
    assert gain(1.0, 0.2) == 1
    assert gain(0.6, 0.2) == pytest.approx(0.5)
    assert np.isnan(gain(1.0, 1.0))


def test_a_risk_has_its_interval():
    train = np.r_[np.ones(60), np.zeros(40)]
    control = np.r_[np.zeros(80), np.ones(20)]
    found = risk("inference", Rates(train, control))
    assert found.value == pytest.approx(0.5)
    assert 0.3 < found.low < 0.42 < 0.58 < found.high < 0.65
    assert (found.n, found.n_real, found.details) == (100, 200, {"train": 0.6, "control": 0.2})
    with pytest.raises(VesaliusError, match="always right"):
        risk("inference", Rates(train, np.ones(100)))
    with pytest.raises(VesaliusError, match="9 pairs"):
        risk("inference", Rates(train[:9], control[:9]))


@pytest.mark.parametrize(("train", "control"), [(0.0, 0.0), (0.5, 0.5), (0.9, 0.5), (0.8, 0.8)])
def test_few_pairs_do_not_make_a_risk_certain(train, control):
    rng, truth, above, below = np.random.default_rng(0), gain(train, control), 0, 0
    for _ in range(400):
        sides = (rng.random((2, 20)) < [[train], [control]]).astype(float)
        if sides[1].all():
            continue
        found = risk("inference", Rates(*sides))
        assert found.low < found.high
        above, below = above + (found.low > truth), below + (found.high < truth)
    assert max(above, below) / 400 < 0.05


def test_the_nearest_of_a_person_s_images():
    made, x = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [3.0, 4.0], [9.0, 9.0]])
    found = nearest(made, x, [[0, 1], [2]])
    np.testing.assert_allclose(found, [[1, 0], [162**0.5, 61**0.5]])


def test_distances_are_those_of_all_pairs_whatever_is_held_at_once(monkeypatch):
    made, x = people(40), people(70, seed=1)
    groups = [range(start, min(start + 1 + start % 4, 70)) for start in range(0, 70, 3)]
    apart = np.linalg.norm(made[:, None] - x, axis=-1)
    for held in (1, 200, 10**6):
        monkeypatch.setattr(module, "_HELD", held)
        found = nearest(made, x, groups)
        for row, group in zip(found, groups, strict=True):
            np.testing.assert_allclose(row, apart[:, list(group)].min(1))
        assert closest(made, x).tolist() == apart.argmin(0).tolist()
    assert closest(made, x[:0]).shape == (0,)


def test_memory_does_not_grow_with_the_square_of_the_images(monkeypatch):
    made, x = people(2000), people(2000, seed=1)  # all distances would be 32 MB
    monkeypatch.setattr(module, "_HELD", 2**16)
    tracemalloc.start()
    closest(made, x)
    nearest(made, x, [range(k, k + 100) for k in range(0, 2000, 100)])
    assert tracemalloc.get_traced_memory()[1] < 12e6
    tracemalloc.stop()


def test_a_set_that_shows_each_person_alone_singles_out():
    x, control = people(200, 30), people(200, 30, 1)
    copies = np.concatenate([x + 0.01, control[:1] + 20])  # one far away tells nothing
    found = singling_out(alone(x, copies), alone(control, copies))
    assert found.low > 0
    # exactly one of n before the first of n others: 1/4; with a copy of one in two besides: 3/8
    assert found.details["control"] == pytest.approx(1 / 4, abs=0.03)
    assert found.details["train"] == pytest.approx(3 / 8, abs=0.03)


def test_a_set_of_strangers_singles_nobody_out():
    accused = 0
    for seed in range(20):
        x, control, made = (people(60, 8, 3 * seed + k) for k in range(3))
        accused += singling_out(alone(x, made), alone(control, made), seed).low > 0
    assert accused <= 1
    with pytest.raises(VesaliusError, match="needs 20"):
        singling_out(alone(x[:19], made), alone(control[:19], made))
