"""How images are noised, what the denoiser is asked to predict, and how much each time weighs.

A `Process` says it all: `Flow` for rectified flow, `Diffusion` for a schedule of betas. Which one a
model has stands in its scheduler's configuration, so that it is trained as it is sampled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vesalius.config import Objective
from vesalius.errors import VesaliusError

TIMESTEPS = 1000


class Process(Protocol):
    """From images to noise: times, noised latents, targets, timesteps and weights of the loss."""

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        """Random times (N,), on the generator's device."""
        ...

    def spread(self, count: int) -> Tensor:
        """Evenly spread times (N,): their mean is an integral over t, little left to chance."""
        ...

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of latents and noise (N, C, h, w) at `t` (N,): what the denoiser sees, and its target."""
        ...

    def timestep(self, t: Tensor) -> Tensor:
        """`t` (N,) as the denoiser takes it, in 0 to 1000."""
        ...

    def weight(self, t: Tensor) -> Tensor:
        """Weight (N,) of the squared error at `t`."""
        ...


def draw_times(count: int, logit_std: float, draw: torch.Generator) -> Tensor:
    """Logit-normal times (N,) in (0, 1): the middle of the path, where the work is, drawn most."""
    return torch.sigmoid(logit_std * torch.randn(count, generator=draw, device=draw.device))


def noised(x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The point at time `t` (N,) of the straight path from `x` to `noise`, and its velocity."""
    time = t.view(-1, 1, 1, 1)
    return (1 - time) * x + time * noise, noise - x


@dataclass(frozen=True)
class Flow:
    """Rectified flow (Liu et al. 2023; Esser et al. 2024), `flow_prediction` in diffusers.

    x_t = (1 - t) x_0 + t e,    target = e - x_0,    t in (0, 1), timestep 1000 t
    """

    logit_std: float = 1.0

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        return draw_times(count, self.logit_std, draw)

    def spread(self, count: int) -> Tensor:
        quantiles = torch.special.ndtri((torch.arange(count) + 0.5) / count)
        return torch.sigmoid(self.logit_std * quantiles)

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return noised(x, noise, t)

    def timestep(self, t: Tensor) -> Tensor:
        return t * TIMESTEPS

    def weight(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class Diffusion:
    """Variance-preserving diffusion (Ho et al. 2020; v: Salimans & Ho 2022); times are integers.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e,    target = e    or    v = sqrt(a_t) e - sqrt(1 - a_t) x_0
    """

    alphas_cumprod: Tensor  # (T,) float32: a_t
    prediction: str  # epsilon or v_prediction
    min_snr_gamma: float | None = None

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        last = len(self.alphas_cumprod)
        return torch.randint(last, (count,), generator=draw, device=draw.device)

    def spread(self, count: int) -> Tensor:
        return ((torch.arange(count) + 0.5) / count * len(self.alphas_cumprod)).long()

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        a = self._at(t).view(-1, 1, 1, 1)
        x_t = a.sqrt() * x + (1 - a).sqrt() * noise
        if self.prediction == "epsilon":
            return x_t, noise
        return x_t, a.sqrt() * noise - (1 - a).sqrt() * x

    def timestep(self, t: Tensor) -> Tensor:
        return t

    def weight(self, t: Tensor) -> Tensor:
        if self.min_snr_gamma is None:
            return torch.ones(len(t), device=t.device)
        return min_snr_weight(snr(self._at(t)), self.min_snr_gamma, self.prediction)

    def _at(self, t: Tensor) -> Tensor:
        return self.alphas_cumprod[t]


def snr(alphas_cumprod: Tensor) -> Tensor:
    """Signal-to-noise ratio a / (1 - a), elementwise."""
    return alphas_cumprod / (1 - alphas_cumprod)


def min_snr_weight(ratio: Tensor, gamma: float, prediction: str) -> Tensor:
    """Weights of the squared error by signal-to-noise ratio (N,): min-SNR (Hang et al. 2023).

    The error of x_0 weighs min(SNR, gamma). Those of the noise and of v are that error times SNR
    and times SNR + 1, so

        epsilon: min(SNR, gamma) / SNR = gamma / max(SNR, gamma),    v: min(SNR, gamma) / (SNR + 1)

    At a ratio of zero v weighs 1: by the formula a zero-terminal-SNR schedule would never be
    trained at the very step that it was made for.
    """
    if prediction == "epsilon":
        return gamma / ratio.clamp_min(gamma)
    weight = ratio.clamp_max(gamma) / (ratio + 1)
    return torch.where(ratio > 0, weight, 1.0)


def alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """(T,) float32: the running product of 1 - beta for a diffusers scheduler's configuration.

    Raises VesaliusError for a schedule that is not known here.
    """
    count = int(config.get("num_train_timesteps", TIMESTEPS))
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float32)
    elif kind == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float32)
    elif kind == "scaled_linear":  # linear in the root: Stable Diffusion's
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    elif kind == "squaredcos_cap_v2":  # Nichol & Dhariwal 2021
        t = torch.arange(count + 1, dtype=torch.float64) / count
        bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
        betas = (1 - bar[1:] / bar[:-1]).clamp_max(0.999).float()
    else:
        raise VesaliusError(f"the scheduler's beta_schedule {kind!r} cannot be trained with")
    return torch.cumprod(1 - betas, 0)


def zero_terminal_snr(alphas: Tensor) -> Tensor:
    """Cumulative alphas (T,) rescaled so that the last step is pure noise (Lin et al. 2024, alg. 1).

    sqrt(a_t)' = (sqrt(a_t) - sqrt(a_T)) sqrt(a_1) / (sqrt(a_1) - sqrt(a_T)): the first step stays
    as it is and the last becomes zero.
    """
    root = alphas.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def offset_noise(noise: Tensor, strength: float, draw: torch.Generator) -> Tensor:
    """Noise (N, C, h, w) plus `strength` times one more draw for each image and channel.

    Plain noise hardly moves an image's mean, so that very dark or bright images are never learnt
    (Guttenberg 2023).
    """
    if not strength:
        return noise
    shift = torch.randn((*noise.shape[:2], 1, 1), generator=draw, device=draw.device)
    return noise + strength * shift.to(noise.device)


def process_of(scheduler: Mapping[str, Any], objective: Objective, device: str = "cpu") -> Process:
    """The process that a diffusers scheduler's configuration describes, with the recipe's weights.

    Its times and latents are to be on `device`.

    Raises VesaliusError where the two do not go together.
    """
    kind = scheduler.get("prediction_type", "epsilon")
    zero = scheduler.get("rescale_betas_zero_snr", False)
    if kind == "flow_prediction" or str(scheduler.get("_class_name", "")).startswith("FlowMatch"):
        if objective.min_snr_gamma:
            raise VesaliusError(
                "min_snr_gamma is for models that predict noise or v: this one predicts a flow, "
                "whose times are weighted by time_logit_std"
            )
        return Flow(objective.time_logit_std)
    if kind not in ("epsilon", "v_prediction"):
        raise VesaliusError(f"a model with prediction_type {kind!r} cannot be trained")
    if zero and kind == "epsilon":
        raise VesaliusError(
            "zero_terminal_snr needs a model that predicts v: at pure noise, predicting the noise "
            "says nothing about the image"
        )
    alphas = alphas_cumprod(scheduler)
    alphas = (zero_terminal_snr(alphas) if zero else alphas).to(device)
    return Diffusion(alphas, kind, objective.min_snr_gamma)
