"""A toy model whose patients are canaries: right code keeps its claim, three usual faults do not.

Each canary has a direction of its own, and was in or out by a coin. Whoever sees the noisy gradients
guesses by how far they have gone along it.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vesalius.config import PrivacySettings
from vesalius.statistics.privacy_audit import one_run_bound
from vesalius.train.method import Method
from vesalius.train.privacy.accountant import calibrated
from vesalius.train.privacy.gradient import PrivateGradient, clipped

pytest.importorskip("dp_accounting")

CANARIES, IMAGES, GHOSTS = 500, 8, 5500  # of each canary; patients who count for nothing
STEPS, DELTA, CLAIM = 4, 1e-5, 2.0


class Directions(Method):
    """The gradient of each image of canary k is along axis k; that of one who is out is zero."""

    name = "directions"

    def __init__(self, member):
        self.module = nn.ParameterList([nn.Parameter(torch.zeros(CANARIES))])
        self.member = member.float()

    def loss(self, rows, draw):
        canary = rows // IMAGES
        return {"loss": -(self.module[0][canary] * self.member[canary]).mean()}


def audited(break_it=lambda gradient, member: gradient, seed="00"):
    """The bound that canaries show of some steps."""
    member = torch.rand(CANARIES, generator=torch.Generator().manual_seed(5)) < 0.5
    method = Directions(member)
    weights = dict(method.module.named_parameters())
    patients = [[*range(k * IMAGES, (k + 1) * IMAGES)] for k in range(CANARIES)]
    settings = PrivacySettings(
        epsilon=CLAIM, delta=DELTA, clip_norm=0.5, patients_per_step=CANARIES // 2, steps=STEPS,
        images_per_patient=IMAGES, noise_draws=1,
    )  # fmt: skip
    mechanism = calibrated(0.5, STEPS, CLAIM, DELTA)
    gradient = PrivateGradient(method, patients, mechanism, settings, {"secret": seed})
    gradient = break_it(gradient, member)
    total = torch.zeros(CANARIES)
    for step in range(STEPS):
        gradient(weights, step, None)
        total -= next(iter(weights.values())).grad
        next(iter(weights.values())).grad = None
    return one_run_bound(total[member].numpy(), total[~member].numpy(), DELTA)


def test_right_code_keeps_its_claim():
    assert audited().epsilon < CLAIM


def test_no_noise_is_caught():
    def broken(gradient, member):
        return replace(gradient, mechanism=replace(gradient.mechanism, sigma=0.0))

    found = audited(broken)
    assert found.epsilon > CLAIM
    assert found.ceiling == pytest.approx(4.54, abs=0.01)


@pytest.mark.slow
@pytest.mark.ci
def test_clipping_by_image_is_caught():
    class ByImage(PrivateGradient):
        def clipped_sum(self, weights, step, micro=None):
            total = torch.zeros(CANARIES)
            for patient in self.drawn(step):
                for row in torch.tensor(self.patients[patient]).split(1):
                    one = self._gradient(weights, row, torch.Generator(), None)
                    total += clipped(one, self.settings.clip_norm)
            return total

    assert audited(lambda gradient, member: ByImage(**vars(gradient))).epsilon > CLAIM


def test_dividing_by_the_batch_that_was_drawn_is_caught():
    """Where most patients count for nothing, those who do would count many times as much."""

    class Realised(PrivateGradient):
        def __call__(self, weights, step, micro):
            total = self.clipped_sum(weights, step, micro)
            there = int(total.count_nonzero())  # of whom anything was summed
            declared = (CANARIES + GHOSTS) // 2  # the batch that is public
            total = total / max(1, there) + self.noise(total, step) / declared
            next(iter(weights.values())).grad = total
            return {}

    assert audited(lambda gradient, member: Realised(**vars(gradient))).epsilon > CLAIM
