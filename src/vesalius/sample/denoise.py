"""Plain sampling: noise and text in, latents out, over any diffusers scheduler.

The scheduler is the sampler: DPM-Solver++ (Lu et al. 2022, https://arxiv.org/abs/2211.01095), Euler,
PNDM and the rest all come from diffusers, and a step makes the calls that its pipelines make.
`edit.py` has the same steps from an image on, or around a part of one that is kept.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vesalius.sample.guidance import Guidance, Text, guided


@dataclass(frozen=True)
class Batch:
    """N images that are denoised together, each depending on its own noise and text only.

    Latents stay float32 between steps: only the denoiser sees fewer digits, so that the rounding
    of one step does not add to that of the next.
    """

    unet: Any
    scheduler: Any  # with its timesteps set; for this batch alone, as it keeps state
    text: Text
    guidance: Guidance
    steps: int
    noise: Tensor  # (N, C, h, w), float32
    step_options: dict[str, Any]

    def step(self, k: int, latents: Tensor) -> Tensor:
        """Latents (N, C, h, w) after step `k`, counted from 0, of the scheduler's timesteps."""
        scheduler, timesteps = self.scheduler, self.scheduler.timesteps
        inputs, timestep = latents, timesteps[k]
        if hasattr(scheduler, "scale_model_input"):
            inputs = scheduler.scale_model_input(latents, timestep)
        scale, rescale = self.guidance.at(k, len(timesteps)), self.guidance.rescale
        predicted = guided(self._predict, inputs, timestep, self.text, scale, rescale).float()
        options = self.step_options
        return scheduler.step(predicted, timestep, latents, return_dict=False, **options)[0]

    def outlook(self, latents: Tensor) -> Tensor:
        """Where `latents` are on their way to, as far as the scheduler knows; else they themselves.

        Solvers of several steps keep what the model last made of the image without its noise.
        """
        config = self.scheduler.config
        clean = config.get("algorithm_type") == "dpmsolver++" or config.get("predict_x0")
        kept = getattr(self.scheduler, "model_outputs", None)
        return kept[-1] if clean and kept and kept[-1] is not None else latents

    def _predict(self, latents: Tensor, timestep: Tensor, states: Tensor) -> Tensor:
        latents = latents.to(states.dtype)
        return self.unet(latents, timestep, encoder_hidden_states=states, return_dict=False)[0]


def make_batch(
    unet: Any,
    scheduler: Any,
    text: Text,
    guidance: Guidance,
    *,
    steps: int,
    seeds: Sequence[int],
    shape: tuple[int, int, int],
) -> Batch:
    """A batch ready to be denoised; its noise, and any that a sampler adds, is drawn from `seeds`.

    `shape` is (C, h, w). The scheduler is copied: none keeps state from one batch to the next.
    """
    device, dtype = next(unet.parameters()).device, next(unet.parameters()).dtype
    scheduler = fresh_scheduler(scheduler)
    scheduler.set_timesteps(steps, device=device)
    streams = seeded(seeds)
    states = text.states.to(device, dtype)
    negative = text.negative.to(device, dtype).expand(len(states), -1, -1)
    noise = first_noise(streams, shape).to(device)
    accepted = inspect.signature(scheduler.step).parameters
    options = {"generator": streams, "eta": 0.0}  # eta 0 is deterministic DDIM
    options = {name: value for name, value in options.items() if name in accepted}
    weights = None if text.weights is None else text.weights.to(device, dtype)
    text = Text(states, negative, weights)
    return Batch(unet, scheduler, text, guidance, steps, noise, options)


OnStep = Callable[[int, int], None]  # steps done, of how many
OnLatents = Callable[[Tensor], None]  # (N, C, h, w) after a step, for previews


@torch.inference_mode()
def denoise(
    batch: Batch, on_step: OnStep | None = None, on_latents: OnLatents | None = None
) -> Tensor:
    """Latents (N, C, h, w), float32, from noise alone; both callbacks follow each step."""
    latents = batch.noise * getattr(batch.scheduler, "init_noise_sigma", 1.0)
    total = len(batch.scheduler.timesteps)
    for k in range(total):
        latents = batch.step(k, latents)
        if on_latents:
            on_latents(batch.outlook(latents))
        if on_step:
            on_step(k + 1, total)
    return latents


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
