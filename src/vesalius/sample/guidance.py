"""Classifier-free guidance by one prompt or several."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# (latents (N, C, h, w), timestep, text states (N, T, D)) -> prediction (N, C, h, w)
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Text:
    """What N images are guided by: K prompts each, of T tokens with D numbers."""

    states: Tensor  # (N, K, T, D)
    negative: Tensor  # (N, T, D) or (1, T, D)
    weights: Tensor | None = None  # (N, K); None: 1 each


@dataclass(frozen=True)
class Guidance:
    """How closely the prompt is followed.

    `scale` 1 is none. `rescale` in [0, 1] pulls the prediction's deviation back to that without
    guidance, which a high scale inflates (Lin et al. 2024, arXiv 2305.08891, section 3.4).
    `interval` is the part of the steps that are guided at all, 0 the first and 1 the last
    (Kynkaanniemi et al. 2024, arXiv 2404.07724): the others cost half.
    """

    scale: float = 1.0
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def at(self, step: int, steps: int) -> float:
        """The scale of a step, counted from 0."""
        first, last = self.interval
        return self.scale if first <= (step + 0.5) / steps <= last else 1.0


def guided(
    denoiser: Denoiser,
    latents: Tensor,
    timestep: Tensor,
    text: Text,
    scale: float,
    rescale: float = 0.0,
) -> Tensor:
    """The prediction moved away from the negative prompt: u + g * sum_i w_i (c_i - u).

    Classifier-free guidance (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598) in the form
    where g = 1 is the plain conditional prediction, and its sum over several prompts (Liu et al.
    2022, arXiv 2206.01714; de Wilde et al. 2023, arXiv 2303.13430).

    With one prompt of weight 1 and g of 1 or less there is nothing to guide with:
    the negative prompt is left out, and a step costs half, as in diffusers. All predictions come
    from one batched call, [negative; first prompts; second prompts; ...].
    """
    several = text.states.shape[1]
    if scale <= 1 and several == 1 and text.weights is None:
        return denoiser(latents, timestep, text.states[:, 0])
    together = denoiser(
        torch.cat([latents] * (1 + several)),  # ((1 + K) N, C, h, w)
        timestep,
        torch.cat([text.negative, *text.states.unbind(1)]),  # ((1 + K) N, T, D)
    )
    negative, *predictions = together.chunk(1 + several)
    away = [prediction - negative for prediction in predictions]
    if text.weights is not None:
        share = text.weights.to(negative)[:, :, None, None, None]  # (N, K, 1, 1, 1)
        away = [share[:, k] * each for k, each in enumerate(away)]
    toward = sum(away[1:], away[0])
    moved = negative + max(scale, 1.0) * toward
    return _rescaled(moved, negative + toward, rescale) if rescale else moved


def _rescaled(moved: Tensor, unguided: Tensor, share: float) -> Tensor:
    """`moved`, `share` of the way to the standard deviation that `unguided` has in each image."""
    axes = (1, 2, 3)
    factor = unguided.std(axes, keepdim=True) / moved.std(axes, keepdim=True).clamp_min(1e-6)
    return moved * (share * factor + (1 - share))
