"""The noise process of a model: how images are noised, what the denoiser predicts, what each time weighs.

Training, sampling and the membership attack all take it from here. Which one a model has stands in
its diffusers scheduler's configuration: `Flow` for rectified flow, `Diffusion` for a schedule of
betas. Both are

    x_t = a x_0 + s e,    e ~ N(0, 1),    with (a, s) = `levels(t)`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from vesalius.config import Objective
from vesalius.errors import VesaliusError

TIMESTEPS = 1000


class Process(Protocol):
    """From images to noise. Times `t` are (N,); latents and noise (N, C, h, w)."""

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        """Random times for training, on the generator's device."""
        ...

    def spread(self, count: int) -> Tensor:
        """Evenly spread times for validation: their mean is an integral over t without chance."""
        ...

    def at(self, share: float) -> Tensor:
        """The time (1,) that lies `share` of the way to noise, from 0 to below 1."""
        ...

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the image and of the noise there is at `t`: a and s."""
        ...

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the denoiser should predict at `t`."""
        ...

    def noise(self, x_t: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        """The noise in `x_t`, if what the denoiser `predicted` there is right."""
        ...

    def timestep(self, t: Tensor) -> Tensor:
        """`t` as the denoiser takes it, in 0 to 1000."""
        ...

    def weight(self, t: Tensor) -> Tensor:
        """Weight of the squared error at `t`."""
        ...


def add_noise(process: Process, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Latents `x` noised to the times `t`: what the denoiser sees."""
    a, s = (_each(level) for level in process.levels(t))
    return a * x + s * noise


def _each(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Flow:
    """Rectified flow (Liu et al. 2023; Esser et al. 2024), `flow_prediction` in diffusers.

    a = 1 - t,    s = t,    target = e - x_0,    t in (0, 1), timestep 1000 t
    """

    logit_std: float = 1.0  # of the times drawn: the middle of the path, where the work is, most

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        return torch.sigmoid(
            self.logit_std * torch.randn(count, generator=draw, device=draw.device)
        )

    def spread(self, count: int) -> Tensor:
        quantiles = torch.special.ndtri((torch.arange(count) + 0.5) / count)
        return torch.sigmoid(self.logit_std * quantiles)

    def at(self, share: float) -> Tensor:
        return torch.tensor([_check(share)])

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - x

    def noise(self, x_t: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        return x_t + _each(1 - t) * predicted

    def timestep(self, t: Tensor) -> Tensor:
        return t * TIMESTEPS

    def weight(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class Diffusion:
    """Variance-preserving diffusion (Ho et al. 2020; v: Salimans & Ho 2022); times are integers.

    a = sqrt(A_t),    s = sqrt(1 - A_t),    target = e, or v = a e - s x_0, or x_0
    """

    alphas_cumprod: Tensor  # (T,) float32: A_t
    prediction: str  # epsilon, v_prediction or sample
    min_snr_gamma: float | None = None

    def draw(self, count: int, draw: torch.Generator) -> Tensor:
        last = len(self.alphas_cumprod)
        return torch.randint(last, (count,), generator=draw, device=draw.device)

    def spread(self, count: int) -> Tensor:
        return ((torch.arange(count) + 0.5) / count * len(self.alphas_cumprod)).long()

    def at(self, share: float) -> Tensor:
        return torch.tensor([int(len(self.alphas_cumprod) * _check(share))])

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        a = self.alphas_cumprod[t]
        return a.sqrt(), (1 - a).sqrt()

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return x
        a, s = (_each(level) for level in self.levels(t))
        return a * noise - s * x

    def noise(self, x_t: Tensor, predicted: Tensor, t: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return predicted
        a, s = (_each(level) for level in self.levels(t))
        if self.prediction == "sample":
            return (x_t - a * predicted) / s
        return a * predicted + s * x_t

    def timestep(self, t: Tensor) -> Tensor:
        return t

    def weight(self, t: Tensor) -> Tensor:
        if self.min_snr_gamma is None:
            return torch.ones(len(t), device=t.device)
        return min_snr_weight(snr(self.alphas_cumprod[t]), self.min_snr_gamma, self.prediction)


def _check(share: float) -> float:
    if not 0 <= share < 1:
        raise VesaliusError(f"a time is from 0, no noise, to below 1, not {share}")
    return share


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


def is_flow(scheduler: Any) -> bool:
    """Whether a diffusers scheduler is for a model that predicts a rectified flow."""
    config = scheduler.config
    return (
        config.get("prediction_type") == "flow_prediction"
        or bool(config.get("use_flow_sigmas"))
        or any(kind.__name__.startswith("FlowMatch") for kind in type(scheduler).__mro__)
    )


def process_of(scheduler: Any, device: torch.device | str = "cpu") -> Process:
    """The process that a diffusers scheduler describes, for times and latents on `device`.

    Raises VesaliusError for a prediction or a schedule that is not known.
    """
    if is_flow(scheduler):
        return Flow()
    config = scheduler.config
    kind = config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise VesaliusError(f"what a model with prediction_type {kind!r} predicts is not known")
    alphas = alphas_cumprod(config)
    if config.get("rescale_betas_zero_snr", False):
        alphas = zero_terminal_snr(alphas)
    return Diffusion(alphas.to(device), kind)


def process_hash(process: Process) -> str:
    """What a denoiser learns by a process: `flow`, or as in `epsilon 0123456789abcdef`, by its schedule."""
    if isinstance(process, Flow):
        return "flow"
    assert isinstance(process, Diffusion)
    schedule = process.alphas_cumprod.cpu().numpy().tobytes()
    return f"{process.prediction} {hashlib.sha256(schedule).hexdigest()[:16]}"


def training_process(
    scheduler: Any, objective: Objective, device: torch.device | str = "cpu"
) -> Process:
    """`process_of` with the times and weights of a recipe.

    Raises VesaliusError where the two do not go together.
    """
    process = process_of(scheduler, device)
    if isinstance(process, Flow):
        if objective.min_snr_gamma:
            raise VesaliusError(
                "min_snr_gamma is for models that predict noise or v: this one predicts a flow, "
                "whose times are weighted by time_logit_std"
            )
        return Flow(objective.time_logit_std)
    assert isinstance(process, Diffusion)
    if process.prediction == "sample":
        raise VesaliusError("a model with prediction_type 'sample' cannot be trained")
    if process.prediction == "epsilon" and scheduler.config.get("rescale_betas_zero_snr"):
        raise VesaliusError(
            "zero_terminal_snr needs a model that predicts v: at pure noise, predicting the noise "
            "says nothing about the image"
        )
    return replace(process, min_snr_gamma=objective.min_snr_gamma)
