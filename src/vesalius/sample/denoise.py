"""The one denoising loop: noise and text states in, latents out, over any diffusers scheduler.

The scheduler is the sampler: DPM-Solver++ (Lu et al. 2022, https://arxiv.org/abs/2211.01095), Euler,
PNDM and the rest all come from diffusers, and the loop makes the calls that its pipelines make.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vesalius.sample.guidance import guided


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """One random stream per image, on the CPU: the same numbers whatever device denoises."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def first_noise(streams: Sequence[torch.Generator], shape: tuple[int, int, int]) -> torch.Tensor:
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
    states: torch.Tensor,
    negative_states: torch.Tensor,
    *,
    seeds: Sequence[int],
    shape: tuple[int, int, int],
    steps: int,
    guidance: float,
    on_step: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Latents (N, C, h, w), float32, for text states (N, T, D); image k depends on seeds[k] only.

    `shape` is (C, h, w); `guidance` the scale of `guidance.guided`; `on_step(done, total)` is told
    after every step. The scheduler is copied first: none keeps state from one call to the next.
    """
    device, dtype = next(unet.parameters()).device, next(unet.parameters()).dtype
    scheduler = fresh_scheduler(scheduler)
    scheduler.set_timesteps(steps, device=device)
    streams = seeded(seeds)
    # Latents stay float32 between steps: only the denoiser sees fewer digits, so that the rounding
    # of one step does not add to that of the next.
    latents = first_noise(streams, shape).to(device) * scheduler.init_noise_sigma
    states = states.to(device, dtype)
    negative_states = negative_states.to(device, dtype).expand_as(states)
    extra = _step_arguments(scheduler, streams)

    def call(inputs: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return unet(inputs.to(dtype), timestep, encoder_hidden_states=text, return_dict=False)[0]

    timesteps = scheduler.timesteps
    for done, timestep in enumerate(timesteps, start=1):
        inputs = latents
        if hasattr(scheduler, "scale_model_input"):
            inputs = scheduler.scale_model_input(latents, timestep)
        predicted = guided(call, inputs, timestep, states, negative_states, guidance).float()
        latents = scheduler.step(predicted, timestep, latents, return_dict=False, **extra)[0]
        if on_step:
            on_step(done, len(timesteps))
    return latents


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
def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents (N, C, h, w) to pixels (N, H, W, 3), uint8 on the CPU.

    One image at a time: the decoder's activations are the peak of memory, and an image then does
    not depend on its neighbours even in the last bit.
    """
    device, dtype = next(vae.parameters()).device, next(vae.parameters()).dtype
    images = []
    for latent in latents.to(device, dtype).split(1):
        image = vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0]
        pixels = (image.float() / 2 + 0.5).clamp(0, 1).mul(255).round()  # (1, 3, H, W)
        images.append(pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu())
    return torch.cat(images)
