"""Canaries: what the audit of a private training knows to be in it or not, by fair coins of its own.

A canary is a unit of the sampling like a patient: drawn with the same chance, with as many images and
noisings, its gradient clipped, summed with the others', noised and divided. A coin decided whether it
counts or, where it is out, for zero, as a patient who is left out does. After the training each canary
has a score, and how often scores tell the coins is a lower bound on epsilon (Steinke et al. 2023).

They are gradients, not images. An image that nobody would confuse with another (a canary of the usual
kind) is hardly seen in a gradient that is cut to a small norm and mixed with those of a hundred
patients: such audits show little, whatever is wrong. The strongest canary is a gradient of which the
attacker knows the direction (Nasr et al. 2023, Steinke et al. 2023, "Dirac canary"): all of its norm
in one number of its own. Ours have these numbers beside the model's weights, as a parameter that
nothing but the canaries touches. So nobody's gradient stands in the way, the bound is as large as the
code's own faults allow, and what comes out is no worse for them: the model's weights get gradients
and noise as without canaries, and q, B and sigma stay those of the patients.

The attacker is the one whom the guarantee is made against: who sees the noisy sum of each step, and
knows q and sigma. A step's number x of a canary, in units of the clip norm, is N(1, sigma^2) where it
is in and was drawn, else N(0, sigma^2), and the score is the sum over the steps of the logarithm of

    1 - q + q exp((x - 1/2) / sigma^2),

by which no other score is better (Neyman and Pearson). Without noise it is the sum of x.

What is found: noise that is missing or too small, patients who are drawn more often than q, a clipping
that is left out (the gradients of canaries are longer than the clip norm) or made by image, a divisor
that depends on who is there, sums that count somebody twice. What is not: a fault of the network
itself, such as images of several patients in one normalisation; noise that is missing on some of the
weights alone, or is the same in each step. Coins and scores stay in the run's private folder.

Of an aggregation, which has no gradients and one sum, a canary is a vector beside those that patients'
images are inverted to: cut to norm 1, summed and noised as they are, and along a number of its own.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.config import PrivacySettings
from vesalius.statistics.privacy_audit import OneRunBound, one_run_bound
from vesalius.train import distributed as ranks
from vesalius.train.privacy.accountant import Mechanism

LONG = 8.0  # times the clip norm, that a canary's gradient has before it is clipped
KEPT = "canaries"  # in a method's `kept`; the parameter's name as well


def new_coins(count: int) -> dict[str, list[Any]]:
    """Of each canary whether it is in, by the system's entropy, and its score: the same in all processes."""
    drawn = ranks.shared_bytes(os.urandom(math.ceil(count / 8)))
    inside = [bool(drawn[k // 8] >> k % 8 & 1) for k in range(count)]
    return {"inside": inside, "scores": [0.0] * count}


@dataclass(frozen=True)
class Canaries:
    """The canaries of a run, as rows that follow on those of patients.

    `kept` is the method's own, which checkpoints store: coins and scores go on with a run.
    """

    along: nn.Parameter  # (N,): canary k has number k
    first: int  # place of the first canary's first row
    settings: PrivacySettings
    mechanism: Mechanism
    kept: Mapping[str, Any]

    @classmethod
    def of(
        cls, module: nn.Module, first: int, settings: PrivacySettings, mechanism: Mechanism,
        kept: Mapping[str, Any],
    ) -> "Canaries":  # fmt: skip
        """As a parameter of `module`, so that all that is done to weights is done to it."""
        device = next(module.parameters()).device
        along = nn.Parameter(torch.zeros(settings.canaries, device=device))
        module.register_parameter(KEPT, along)
        return cls(along, first, settings, mechanism, kept)

    @property
    def units(self) -> list[list[int]]:
        """The rows of each canary: as many as a patient may have in a step."""
        each = self.settings.images_per_patient
        starts = range(self.first, self.first + each * len(self.along), each)
        return [[*range(start, start + each)] for start in starts]

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """The loss of a canary's `rows`, whose gradient lies along its own number."""
        numbers = (rows - self.first) // self.settings.images_per_patient
        inside = torch.tensor(self.kept[KEPT]["inside"])[numbers].to(self.along)
        far = LONG * self.settings.clip_norm
        return {"loss": -(far * self.along[numbers.to(self.along.device)] * inside).mean()}

    def see(self) -> None:
        """Add a step's evidence to the scores: what the private gradient says along each canary."""
        assert self.along.grad is not None
        unit = self.settings.clip_norm / self.settings.patients_per_step
        x = -self.along.grad.double().cpu() / unit
        sigma, rate = self.mechanism.sigma, self.mechanism.rate
        if sigma:
            out = math.log1p(-rate) if rate < 1 else -math.inf
            inside = math.log(rate) + (x - 0.5) / sigma**2
            x = torch.logaddexp(torch.full_like(x, out), inside)
        known = self.kept[KEPT]
        known["scores"] = (torch.tensor(known["scores"], dtype=torch.float64) + x).tolist()


def bound(kept: Mapping[str, Any], delta: float) -> OneRunBound:
    """What the canaries of a method's `kept` show of epsilon at `delta`.

    Raises VesaliusError where all coins fell alike.
    """
    inside = torch.tensor(kept[KEPT]["inside"])
    scores = torch.tensor(kept[KEPT]["scores"], dtype=torch.float64)
    return one_run_bound(scores[inside].numpy(), scores[~inside].numpy(), delta)
