"""The one denoising loop: noise and text states in, latents out, over any diffusers scheduler.

The scheduler is the sampler: DPM-Solver++ (Lu et al. 2022, https://arxiv.org/abs/2211.01095), Euler,
PNDM and the rest all come from diffusers, and the loop makes the calls that its pipelines make.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vesalius.models.noise_process import add_noise, process_of
from vesalius.sample.guidance import Guidance, guided


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


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """One random stream per image, on the CPU: the same numbers whatever device denoises."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def first_noise(streams: Sequence[torch.Generator], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise (N, C, h, w), float32, image k from stream k alone."""
    return torch.cat([torch.randn((1, *shape), generator=stream) for stream in streams])


def fresh_scheduler(scheduler: Any) -> Any:
    """A copy of `scheduler` without state, with the two settings that diffusers' pipelines impose.

    They set `steps_offset` to 1 and `clip_sample` to false whatever the folder says: clipping to
    [-1, 1] is meant for pixels, and ruins latents.
    """
    imposed = {"steps_offset": 1, "clip_sample": False}
    known = {key: value for key, value in imposed.items() if key in scheduler.config}
    return type(scheduler).from_config(scheduler.config, **known)


@torch.inference_mode()
def denoise(
    unet: Any,
    scheduler: Any,
    states: Tensor,
    negative_states: Tensor,
    *,
    seeds: Sequence[int],
    shape: tuple[int, int, int],
    steps: int,
    guidance: Guidance,
    weights: Tensor | None = None,
    known: Known | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Latents (N, C, h, w), float32; image k depends on its own seed, states and known latents only.

    `states` are (N, K, T, D) for K prompts an image with `weights` (N, K), as `guidance.guided`
    takes them; `negative_states` (N, T, D) or (1, T, D); `shape` is (C, h, w); `on_step(done,
    total)` is told after every step. The scheduler is copied first: none keeps state from one call
    to the next.
    """
    device, dtype = next(unet.parameters()).device, next(unet.parameters()).dtype
    scheduler = fresh_scheduler(scheduler)
    scheduler.set_timesteps(steps, device=device)
    streams = seeded(seeds)
    # Latents stay float32 between steps: only the denoiser sees fewer digits, so that the rounding
    # of one step does not add to that of the next.
    noise = first_noise(streams, shape).to(device)
    start, latents = 0, noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if known is not None:
        given = known.latents.to(device, torch.float32)
        start = _skip(scheduler, steps - min(steps, round(steps * known.strength)))
        level = copy.deepcopy(scheduler)  # knows how much noise each step has; never steps
        if start or known.mask is None:
            latents = noised(level, given, noise, start)
        if start and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        mask = None if known.mask is None else known.mask.to(device, torch.float32)
    states = states.to(device, dtype)
    negative_states = negative_states.to(device, dtype).expand(len(states), -1, -1)
    extra = _step_arguments(scheduler, streams)

    def call(inputs: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return unet(inputs.to(dtype), timestep, encoder_hidden_states=text, return_dict=False)[0]

    timesteps = scheduler.timesteps
    for k in range(start, len(timesteps)):
        inputs = latents
        if hasattr(scheduler, "scale_model_input"):
            inputs = scheduler.scale_model_input(latents, timesteps[k])
        predicted = guided(
            call,
            inputs,
            timesteps[k],
            states,
            negative_states,
            guidance.at(k, len(timesteps)),
            weights=weights,
            rescale=guidance.rescale,
        ).float()
        latents = scheduler.step(predicted, timesteps[k], latents, return_dict=False, **extra)[0]
        if known is not None and mask is not None:
            latents = mask * latents + (1 - mask) * noised(level, given, noise, k + 1)
        if on_step:
            on_step(k + 1 - start, len(timesteps) - start)
    return given.clone() if known is not None and start >= len(timesteps) else latents


def _skip(scheduler: Any, steps: int) -> int:
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


def _step_arguments(scheduler: Any, streams: list[torch.Generator]) -> dict[str, Any]:
    """What some schedulers' `step` takes besides: per-image randomness, and DDIM's eta of 0."""
    accepted = inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {}
    if "generator" in accepted:
        extra["generator"] = streams
    if "eta" in accepted:
        extra["eta"] = 0.0
    return extra


@torch.inference_mode()
def decode(vae: Any, latents: Tensor, bits: int = 8) -> Tensor:
    """Latents (N, C, h, w) to pixels on the CPU: uint8 (N, H, W, 3), or of 16 `bits` uint16 (N, H, W).

    16 bits are grey, the mean of the decoder's channels before any rounding. One image at a time:
    the decoder's activations are the peak of memory, and an image then does not depend on its
    neighbours even in the last bit.
    """
    device, dtype = next(vae.parameters()).device, next(vae.parameters()).dtype
    images = []
    for latent in latents.to(device, dtype).split(1):
        image = vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0]
        unit = (image.float() / 2 + 0.5).clamp(0, 1)  # (1, 3, H, W)
        if bits == 16:
            images.append(unit.mean(1).mul(65535).round().to(torch.int32).cpu().to(torch.uint16))
        else:
            pixels = unit.mul(255).round().to(torch.uint8)
            images.append(pixels.permute(0, 2, 3, 1).cpu())
    return torch.cat(images)


@torch.inference_mode()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Pixels (N, H, W, 3), uint8, to latents (N, C, h, w), float32: the posterior's mean.

    One image at a time, as `decode` does it.
    """
    device, dtype = next(vae.parameters()).device, next(vae.parameters()).dtype
    latents = []
    for image in pixels.permute(0, 3, 1, 2).split(1):
        signed = (image.float() / 127.5 - 1).to(device, dtype)
        coded = vae.encode(signed)
        mean = coded.latent_dist.mean if hasattr(coded, "latent_dist") else coded.latents
        latents.append(mean.float() * vae.config.scaling_factor)
    return torch.cat(latents)
