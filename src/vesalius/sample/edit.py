"""Sampling that begins with an image, or keeps a part of one: the steps are those of `denoise`."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vesalius.models.noise_process import add_noise, process_of
from vesalius.sample.denoise import Batch, OnLatents, OnStep


@dataclass(frozen=True)
class Known:
    """Latents that images start from, and where they are to be kept.

    `latents` (N, C, h, w) are noised up to `strength` of the way, rounded to whole steps, and
    denoised from there (Meng et al. 2022, SDEdit, https://arxiv.org/abs/2108.01073): 0 returns
    them, and with 1 only the last trace of them is left. Where `mask` (N, 1, h, w) is 0 they are
    put back after every step, noised as far as that step has come; where it is 1 they are drawn
    anew (Lugmayr et al. 2022, RePaint, https://arxiv.org/abs/2201.09865, equation 8).
    """

    latents: Tensor
    strength: float = 1.0
    mask: Tensor | None = None


@torch.inference_mode()
def edit(
    batch: Batch,
    known: Known,
    on_step: OnStep | None = None,
    on_latents: OnLatents | None = None,
) -> Tensor:
    """Latents (N, C, h, w), float32, from `known` ones; steps left out are not counted."""
    scheduler, noise = batch.scheduler, batch.noise
    given = known.latents.to(noise)
    mask = None if known.mask is None else known.mask.to(noise)
    start = _leave_out(
        scheduler, batch.steps - min(batch.steps, round(batch.steps * known.strength))
    )
    levels = copy.deepcopy(scheduler)  # knows how much noise each step has; never steps
    if start or mask is None:
        latents = noised(levels, given, noise, start)
    else:
        latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if start and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    total = len(scheduler.timesteps)
    for k in range(start, total):
        latents = batch.step(k, latents)
        if mask is not None:
            latents = mask * latents + (1 - mask) * noised(levels, given, noise, k + 1)
        if on_latents:
            on_latents(batch.outlook(latents))
        if on_step:
            on_step(k + 1 - start, total - start)
    return given.clone() if start >= total else latents


def _leave_out(scheduler: Any, steps: int) -> int:
    """Where in its timesteps a scheduler begins that leaves out the first `steps`."""
    if hasattr(scheduler, "plms_timesteps"):
        # PLMS takes its second step twice, wherever it begins, but lists it for a begin at the top.
        # diffusers' pipelines follow that list, and so leave the noise of one step in the image.
        times = scheduler.timesteps.unique_consecutive()
        scheduler.timesteps = torch.cat([times[: steps + 2], times[steps + 1 :]])
    return steps * scheduler.order


def noised(scheduler: Any, latents: Tensor, noise: Tensor, step: int) -> Tensor:
    """`latents` (N, C, h, w) with as much `noise` as a scheduler's input has at `step`, 0 the first.

    After the last step there is none left.
    """
    if step >= len(scheduler.timesteps):
        return latents
    timestep = scheduler.timesteps[step]
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(latents, noise, timestep.expand(len(latents)))
    time = (timestep / scheduler.config.num_train_timesteps).to(latents.dtype)
    return add_noise(process_of(scheduler), latents, noise, time)
