"""Samplers of a rectified flow that diffusers lacks, or lays on a grid of its own.

A flow's noise level s runs from 1 to 0 on x_s = (1 - s) x_0 + s e, its model predicts v = e - x_0,
and is given 1000 s. Diffusers' own `set_timesteps` of the two classes below spends the last of n
calls on s = 0.001, where nothing is left to do (its pipelines for flows pass other levels); here
all n levels are even, as those of DPM-Solver++ and UniPC are, and then shifted (Esser et al. 2024,
https://arxiv.org/abs/2403.03206, equation 23).
"""

from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


def even_levels(steps: int) -> np.ndarray:
    """Noise levels (steps,) from 1 down to 1 / steps; the level after the last is 0."""
    return np.linspace(1.0, 1.0 / steps, steps)


class FlowEuler(FlowMatchEulerDiscreteScheduler):
    """Euler's method. Deterministic DDIM in a flow's terms is the same step.

    x_s' = (1 - s') x_0 + s' e with x_0 = x_s - s v and e = x_s + (1 - s) v is x_s + (s' - s) v.
    """

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:  # pyright: ignore
        """Forget the last run, and be ready for one of so many steps."""
        super().set_timesteps(sigmas=even_levels(num_inference_steps).tolist(), device=device)


class FlowEulerAncestral(FlowEuler):
    """Euler's method with fresh noise in every step (`euler_ancestral` of k-diffusion, eta 1).

    Of the noise in x_s' the share r is the old one, e, and the rest, of variance 1 - r^2, is new:

    x_s' = (1 - s') x_0 + s' (r e + sqrt(1 - r^2) z),    r = s' (1 - s) / (s (1 - s'))

    so that x_s' has as much noise as its level says. r is the ratio of the two levels s / (1 - s),
    the sigmas of a model without a flow: after division by 1 - s it is that model's very step.
    """

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: list[torch.Generator] | torch.Generator | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The next latents (N, C, h, w), image k with noise from generator k alone."""
        if self.step_index is None:
            self._init_step_index(timestep)
        index: Any = self.step_index
        sigmas: Any = self.sigmas
        now, after = sigmas[index], sigmas[index + 1]
        clean = sample - now * model_output
        old = sample + (1 - now) * model_output
        kept = after * (1 - now) / (now * (1 - after))
        new = randn_tensor(
            sample.shape, generator=generator, device=sample.device, dtype=sample.dtype
        )
        noise = kept * old + (1 - kept**2).sqrt() * new
        self._step_index = index + 1
        return ((1 - after) * clean + after * noise,)


class FlowHeun(FlowMatchHeunDiscreteScheduler):
    """Heun's method: two calls of the model a step, but one in the last (Karras et al. 2022)."""

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Forget the last run, and be ready for one of so many steps."""
        super().set_timesteps(num_inference_steps, device)
        levels = torch.tensor(even_levels(num_inference_steps), dtype=torch.float32, device=device)
        config: Any = self.config
        levels = config.shift * levels / (1 + (config.shift - 1) * levels)
        # every level but the first is met twice: by the first guess, and by the step that mends it
        twice = torch.cat([levels[:1], levels[1:].repeat_interleave(2)])
        self.timesteps = twice * config.num_train_timesteps
        self.sigmas = torch.cat([twice, torch.zeros(1, device=device)])
