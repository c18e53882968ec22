"""Classifier-free guidance."""

from collections.abc import Callable

import torch

# (latents (N, C, h, w), timestep, text states (N, T, D)) -> prediction (N, C, h, w)
Denoiser = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def guided(
    denoiser: Denoiser,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    states: torch.Tensor,
    negative_states: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """The prediction moved away from the negative prompt: u + scale * (c - u).

    Classifier-free guidance of Ho & Salimans 2022 (https://arxiv.org/abs/2207.12598) in the form
    where scale 1 is the plain conditional prediction. At 1 or less there is nothing to guide with:
    the negative prompt is left out, and a step costs half, as in diffusers.
    Both predictions come from one batched call, [negative; conditional].
    """
    if scale <= 1:
        return denoiser(latents, timestep, states)
    both = denoiser(
        torch.cat([latents, latents]),  # (2N, C, h, w)
        timestep,
        torch.cat([negative_states, states]),  # (2N, T, D)
    )
    negative, conditional = both.chunk(2)
    return negative + scale * (conditional - negative)
