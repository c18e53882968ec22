"""The noisy mean of inversions, and what its canaries find."""

import pytest
import torch

from vesalius.train.methods import dp_aggregate as module
from vesalius.train.methods.dp_aggregate import aggregate, of_norm_one
from vesalius.train.privacy.accountant import calibrated
from vesalius.train.privacy.canaries import KEPT, bound, new_coins

pytest.importorskip("dp_accounting")

CLAIM, DELTA = 1.0, 1e-5


def inversions(patients=40, numbers=12):
    values = torch.randn(patients, numbers, generator=torch.Generator().manual_seed(0))
    return torch.stack([of_norm_one(vector) for vector in values])


def shown(count=500):
    """What the canaries of an aggregation show, and the mean."""
    kept = {"secret": "00", KEPT: new_coins(count)}
    mean = aggregate(inversions(), calibrated(1.0, 1, CLAIM, DELTA).sigma, kept)
    return bound(kept, DELTA).epsilon, mean


def test_the_mean_has_noise_of_the_size_that_is_accounted_for():
    known = inversions()
    assert torch.equal(aggregate(known, 0.0, {"secret": "00"}), known.sum(0) / 40)
    moved = [aggregate(known, 2.0, {"secret": f"{k:02x}"}) - known.mean(0) for k in range(200)]
    assert float(torch.stack(moved).std()) == pytest.approx(2 / 40, rel=0.05)


def test_what_is_not_finite_counts_as_zero():
    for vector in ([float("nan"), 1.0], [float("inf"), 0.0], [0.0, 0.0]):
        assert of_norm_one(torch.tensor(vector)).tolist() == [0, 0]


def test_canaries_leave_the_words_alone():
    without = aggregate(inversions(), 0.0, {"secret": "00"})
    with_some = aggregate(inversions(), 0.0, {"secret": "00", KEPT: new_coins(64)})
    assert torch.equal(with_some, without)


def test_an_honest_aggregation_keeps_its_claim():
    epsilon, mean = shown()
    assert epsilon < CLAIM
    assert mean.shape == (12,)


def test_noise_that_is_left_out_is_caught(monkeypatch):
    monkeypatch.setattr(module.torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    assert shown()[0] > CLAIM


def test_vectors_longer_than_one_are_caught(monkeypatch):
    known = inversions()
    monkeypatch.setattr(module, "of_norm_one", lambda vector: vector)
    monkeypatch.setitem(globals(), "inversions", lambda: known)
    assert shown()[0] > CLAIM
