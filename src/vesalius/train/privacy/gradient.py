"""The private gradient of a step: Poisson over patients, clipped by patient, with noise.

    S_t   each of n patients with the chance q = B / n, independently
    g_p   gradient of the mean loss over at most m images of patient p, each noised K times
    g     = (sum over p in S_t of g_p min(1, C / |g_p|) + N(0, sigma^2 C^2)) / B

B is fixed: a step without patients is a step of noise. A patient whose gradient is not finite counts
as zero. This is DP-SGD (Abadi et al. 2016) with patients in the place of examples; the mean over
several noisings of an image lowers the variance of g_p at no cost in privacy (Dockhorn et al. 2023).

All chance comes from a secret of this run, drawn from the system's entropy, which stands in the run's
own checkpoints and nowhere else: whoever had it could subtract the noise.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.config import PrivacySettings
from vesalius.train import distributed as ranks
from vesalius.train.draws import generator, on_device
from vesalius.train.method import Method
from vesalius.train.privacy.accountant import Mechanism
from vesalius.train.privacy.canaries import Canaries

Weights = Mapping[str, nn.Parameter]


def new_secret() -> str:
    """32 bytes of the system's entropy as hex digits, the same in all processes."""
    return ranks.shared_bytes(os.urandom(32)).hex()


@dataclass(frozen=True)
class PrivateGradient:
    """Sets the gradients of a method's weights, as `Method.gradient` is called.

    `patients` are places in the method's `row_weights`, by patient; the rows of `canaries` follow as
    those of further patients. `kept` holds the secret, and is the method's own `kept`, which
    checkpoints store.
    """

    method: Method
    patients: Sequence[Sequence[int]]
    mechanism: Mechanism
    settings: PrivacySettings
    kept: Mapping[str, Any]
    canaries: Canaries | None = None

    def __call__(self, weights: Weights, step: int, micro: int | None) -> dict[str, Tensor]:
        total = ranks.sum_over_ranks(self.clipped_sum(weights, step, micro))
        total += self.noise(total, step)
        total /= self.settings.patients_per_step
        _set_gradients(weights, total)
        if self.canaries:
            self.canaries.see()
        return {"norm": total.norm()}  # of what is private already: it may be logged

    def drawn(self, step: int) -> list[int]:
        """The patients and canaries of a step, by number: the same in all processes."""
        draw = self._generator("patients", step)
        chance = torch.rand(len(self.patients), generator=draw, dtype=torch.float64)
        return (chance < self.mechanism.rate).nonzero().flatten().tolist()

    def clipped_sum(self, weights: Weights, step: int, micro: int | None = None) -> Tensor:
        """The sum (d,) of the clipped gradients of those of the step's patients that are this process's.

        A process takes each patient whose place among those drawn is its own.
        """
        total = _flat(weights)
        for patient in self.drawn(step)[ranks.rank() :: ranks.world_size()]:
            draw = self._generator("images", step, patient)
            gradient = self._gradient(weights, self._images(patient, draw), draw, micro)
            total += clipped(gradient, self.settings.clip_norm)
        return total

    def noise(self, like: Tensor, step: int) -> Tensor:
        """N(0, sigma^2 C^2), (d,): the same in all processes."""
        draw = on_device(self._generator("noise", step), str(like.device))
        values = torch.randn(like.shape, generator=draw, device=like.device, dtype=like.dtype)
        return values * (self.mechanism.sigma * self.settings.clip_norm)

    def _generator(self, *parts: int | str) -> torch.Generator:
        return generator(self.kept["secret"], *parts)

    def _images(self, patient: int, draw: torch.Generator) -> Tensor:
        """At most m of a patient's rows, none twice, and each K times."""
        rows = torch.tensor(self.patients[patient])
        chosen = torch.randperm(len(rows), generator=draw)[: self.settings.images_per_patient]
        return rows[chosen].repeat_interleave(self.settings.noise_draws)

    def _gradient(
        self, weights: Weights, rows: Tensor, draw: torch.Generator, micro: int | None
    ) -> Tensor:
        """The gradient (d,) of the mean loss over `rows`, `micro` of them in a forward pass."""
        canary = self.canaries is not None and int(rows[0]) >= self.canaries.first
        source = self.canaries if canary else self.method
        for part in rows.split(micro or len(rows)):
            torch.manual_seed(
                int(torch.randint(2**62, (), generator=draw))
            )  # dropout draws from it
            loss = source.loss(part, draw)["loss"]
            (loss * (len(part) / len(rows))).backward()
        gradient = _flat(weights, gradients=True)
        for weight in weights.values():
            weight.grad = None
        return gradient


def clipped(gradient: Tensor, clip_norm: float) -> Tensor:
    """`gradient` at a norm of at most `clip_norm`; zero where it is not finite. Nothing waits."""
    norm = gradient.norm()
    scaled = gradient * (clip_norm / norm.clamp_min(clip_norm))
    return torch.where(torch.isfinite(norm), scaled, 0.0)


def _flat(weights: Weights, gradients: bool = False) -> Tensor:
    """The weights' gradients one after the other, (d,) in float32 at least; or zeros in their place."""
    parts = []
    for weight in weights.values():
        known = weight.grad if gradients and weight.grad is not None else torch.zeros_like(weight)
        parts.append(known.detach().flatten().to(torch.promote_types(weight.dtype, torch.float32)))
    return torch.cat(parts)


def _set_gradients(weights: Weights, flat: Tensor) -> None:
    sizes = [weight.numel() for weight in weights.values()]
    for weight, part in zip(weights.values(), flat.split(sizes), strict=True):
        weight.grad = part.view(weight.shape).to(weight.dtype)
