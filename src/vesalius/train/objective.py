"""Rectified flow: what the denoiser is asked to predict (Liu et al. 2023; Esser et al. 2024).

    x_t = (1 - t) x_0 + t e,    target = e - x_0,    t in (0, 1)

In diffusers this is `prediction_type="flow_prediction"`, with timestep 1000 t.
"""

import torch
from torch import Tensor

TIMESTEPS = 1000


def draw_times(count: int, logit_std: float, draw: torch.Generator) -> Tensor:
    """Logit-normal times (N,) in (0, 1): the middle of the path, where the work is, drawn most."""
    return torch.sigmoid(logit_std * torch.randn(count, generator=draw, device=draw.device))


def noised(x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The point at time `t` (N,) of the straight path from `x` to `noise`, and its velocity."""
    time = t.view(-1, 1, 1, 1)
    return (1 - time) * x + time * noise, noise - x
