"""A private gradient of a small network, with canaries or without, and faults that audits must find."""

import torch
from torch import nn

from vesalius.config import PrivacySettings
from vesalius.train.method import Method
from vesalius.train.privacy.accountant import Mechanism, calibrated
from vesalius.train.privacy.canaries import KEPT, Canaries, new_coins
from vesalius.train.privacy.gradient import PrivateGradient, clipped

SIZES = [1, 2, 3, 5, 8, 1, 4, 2]  # images of each patient


class Rows(Method):
    """A small network on rows of numbers; a row's loss is a function of the row alone."""

    name = "rows"

    def __init__(self, rows, dtype=torch.float64):
        torch.manual_seed(3)
        self.module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
        self.row_weights = torch.ones(rows, dtype=torch.float64)
        self.x = (
            torch.randn(rows, 6, dtype=dtype) * torch.logspace(-2, 2, rows, dtype=dtype)[:, None]
        )
        self.empty = set()  # rows that count for nothing

    def losses(self, x):
        return self.module(x).square().mean(-1)

    def loss(self, rows, draw):
        kept = torch.tensor([float(int(row) not in self.empty) for row in rows])
        return {"loss": (self.losses(self.x[rows]) * kept.to(self.x.dtype)).mean()}


def patients_of(sizes):
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


def gradient_of(method, sizes=SIZES, mechanism=None, secret="00", **changes):
    values = {"epsilon": 1, "clip_norm": 0.05, "patients_per_step": 4, "steps": 9}
    settings = PrivacySettings(**(values | {"images_per_patient": 8, "noise_draws": 1} | changes))
    mechanism = mechanism or Mechanism(1.5, 1.0, 9)
    return PrivateGradient(method, patients_of(sizes), mechanism, settings, {"secret": secret})


def weights_of(method):
    return dict(method.module.named_parameters())


CANARIES, STEPS, DELTA, CLAIM = 500, 4, 1e-5, 2.0


def audited_gradient(count=CANARIES, mechanism=None, **changes):
    """A private gradient of a small network with canaries, and its weights."""
    method = Rows(sum(SIZES), torch.float32)
    values = {"epsilon": CLAIM, "delta": DELTA, "clip_norm": 0.05, "patients_per_step": 4}
    values |= {"steps": STEPS, "images_per_patient": 8, "noise_draws": 1, "canaries": count}
    settings = PrivacySettings(**(values | changes))
    mechanism = mechanism or calibrated(0.5, STEPS, CLAIM, DELTA)
    kept = {"secret": "00", KEPT: new_coins(count)}
    canaries = Canaries.of(method.module, sum(SIZES), settings, mechanism, kept)
    patients = [*patients_of(SIZES), *canaries.units]
    return PrivateGradient(method, patients, mechanism, settings, kept, canaries)


def trained(gradient, steps=range(STEPS)):
    """The gradient after so many steps."""
    weights = dict(gradient.method.module.named_parameters())
    for step in steps:
        gradient(weights, step, None)
        for weight in weights.values():
            weight.grad = None
    return gradient


class WithoutNoise(PrivateGradient):
    def noise(self, like, step):
        return torch.zeros_like(like)


class ByImage(PrivateGradient):
    def clipped_sum(self, weights, step, micro=None):
        total = 0
        for unit in self.drawn(step):
            for row in torch.tensor(self.patients[unit]).split(1):
                one = self._gradient(weights, row, torch.Generator(), None)
                total = total + clipped(one, self.settings.clip_norm)
        return total


class TooLittleNoise(PrivateGradient):
    """A tenth of what the accountant counts on."""

    def noise(self, like, step):
        return super().noise(like, step) / 10
