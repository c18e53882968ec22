"""Canaries in the private gradient: who they are, what they leave alone, and which faults they find."""

import os
from dataclasses import replace

import pytest
import torch
from private_gradients import (
    CANARIES,
    CLAIM,
    DELTA,
    SIZES,
    STEPS,
    ByImage,
    TooLittleNoise,
    WithoutNoise,
    audited_gradient,
    trained,
)

from vesalius.config import Guarantee, PrivacySettings
from vesalius.errors import VesaliusError
from vesalius.train.privacy import gradient as module
from vesalius.train.privacy.accountant import Mechanism
from vesalius.train.privacy.canaries import KEPT, LONG, bound, new_coins
from vesalius.train.privacy.gradient import clipped

pytest.importorskip("dp_accounting")


def test_coins_are_fair_and_of_the_system(monkeypatch):
    counts = [sum(new_coins(100)["inside"]) for _ in range(200)]
    assert 9_600 < sum(counts) < 10_400
    assert len({*counts}) > 5
    monkeypatch.setattr(os, "urandom", lambda count: bytes([0b101] * count))
    assert new_coins(10) == {"inside": [True, False, True, *[False] * 5, True, False],
                             "scores": [0.0] * 10}  # fmt: skip


def test_one_canary_is_the_clip_norm_along_a_number_of_its_own():
    gradient = audited_gradient(64)
    weights = dict(gradient.method.module.named_parameters())
    inside = gradient.kept[KEPT]["inside"]
    for number in range(64):
        rows = gradient._images(len(SIZES) + number, torch.Generator())
        assert len(rows) == 8
        found = gradient._gradient(weights, rows, torch.Generator(), 3)
        along = found[:64]  # the parameter of canaries is the module's first
        assert found[64:].count_nonzero() == 0
        expected = torch.zeros(64)
        expected[number] = -LONG * 0.05 * inside[number]
        torch.testing.assert_close(along, expected)
        norm = float(clipped(found, 0.05).norm())
        assert norm == pytest.approx(0.05 * inside[number], rel=1e-5)


def test_the_model_is_left_alone():
    gradient = audited_gradient(64)
    sums = gradient.clipped_sum(dict(gradient.method.module.named_parameters()), 0)
    del gradient.method.module._parameters[KEPT]
    alone = replace(gradient, patients=gradient.patients[: len(SIZES)], canaries=None)
    assert alone.drawn(0) == [unit for unit in gradient.drawn(0) if unit < len(SIZES)]
    weights = dict(alone.method.module.named_parameters())
    assert torch.equal(sums[64:], alone.clipped_sum(weights, 0))


def test_scores_are_the_evidence_of_each_step():
    mechanism = Mechanism(2.0, 0.5, 1)
    gradient = audited_gradient(64, mechanism)
    weights = dict(gradient.method.module.named_parameters())
    gradient(weights, 0, None)
    x = -weights[KEPT].grad.double() * 4 / 0.05
    evidence = torch.log(0.5 + 0.5 * torch.exp((x - 0.5) / 4))
    torch.testing.assert_close(
        torch.tensor(gradient.kept[KEPT]["scores"]).double(), evidence, rtol=1e-5, atol=1e-6
    )
    # everybody in every step: the evidence is linear in x
    gradient = audited_gradient(64, Mechanism(2.0, 1.0, 1))
    weights = dict(gradient.method.module.named_parameters())
    gradient(weights, 0, None)
    x = -weights[KEPT].grad.double() * 4 / 0.05
    known = torch.tensor(gradient.kept[KEPT]["scores"]).double()
    torch.testing.assert_close(known, (x - 0.5) / 4, rtol=1e-5, atol=1e-6)


def test_right_code_keeps_its_claim():
    found = bound(trained(audited_gradient()).kept, DELTA)
    assert found.epsilon < CLAIM
    assert found.canaries == CANARIES


SLOW = [pytest.mark.slow, pytest.mark.ci]


@pytest.mark.parametrize("fault", [WithoutNoise, TooLittleNoise, pytest.param(ByImage, marks=SLOW)])
def test_faults_are_caught(fault):
    gradient = audited_gradient()
    assert bound(trained(fault(**vars(gradient))).kept, DELTA).epsilon > CLAIM


def test_no_clipping_is_caught(monkeypatch):
    monkeypatch.setattr(module, "clipped", lambda gradient, norm: gradient)
    assert bound(trained(audited_gradient()).kept, DELTA).epsilon > CLAIM


def test_scores_go_on_from_a_file():
    straight = trained(audited_gradient())
    first = audited_gradient()
    coins = straight.kept[KEPT]["inside"]
    first.kept[KEPT]["inside"] = coins
    trained(first, range(2))
    import json

    kept = json.loads(json.dumps(first.kept))
    second = audited_gradient()
    second.kept.update(kept)
    trained(second, range(2, STEPS))
    assert second.kept == straight.kept


def test_too_few_canaries_are_refused():
    with pytest.raises(ValueError, match="32 at least"):
        PrivacySettings(epsilon=1, patients_per_step=4, steps=2, canaries=20)
    assert PrivacySettings(epsilon=1, patients_per_step=4, steps=2).canaries == 0
    with pytest.raises(ValueError, match="32 at least"):
        Guarantee(epsilon=1, canaries=20)


def test_coins_that_fell_alike_tell_nothing():
    gradient = audited_gradient(64)
    gradient.kept[KEPT]["inside"] = [True] * 64
    with pytest.raises(VesaliusError, match="canaries"):
        bound(gradient.kept, DELTA)
