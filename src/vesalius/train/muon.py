"""Muon (Jordan et al. 2024) for a network's hidden matrices, AdamW for the rest, as one optimiser.

    m <- b m + (1 - b) g,    u = (1 - b) g + b m    (Nesterov)
    W <- (1 - lr decay) W - lr sqrt(max(1, rows / columns)) NS(u)

NS brings all singular values of u near 1 by five Newton-Schulz steps: every direction in which the
gradient says something is taken as far as the strongest one. A convolution is the matrix (out,
in * kh * kw). https://kellerjordan.github.io/posts/muon/
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.train.adamw import AdamW

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of x, x^3 and x^5: the steepest at 0 that stay near 1
STEPS = 5


class Muon(AdamW):
    """AdamW but for groups with `muon: True`, whose weights, of two dimensions or more, take Muon.

    Their state is one `momentum_buffer` each. Newton-Schulz is computed in `dtype`: it needs no
    more than bfloat16.
    """

    def __init__(self, params: Any, dtype: torch.dtype = torch.bfloat16, **settings: Any) -> None:
        super().__init__(params, **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        every = self.param_groups
        self.param_groups = [group for group in every if not group.get("muon")]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = every
        for group in every:
            if group.get("muon"):
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        with_gradients = [(w, w.grad) for w in group["params"] if w.grad is not None]
        if not with_gradients:
            return
        weights: list[Tensor] = [weight for weight, _ in with_gradients]
        gradients: list[Tensor] = [gradient for _, gradient in with_gradients]
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for same in _by_shape(weights):  # those of one shape in one product
            steps = orthogonal(torch.stack([updates[k].flatten(1) for k in same]).to(self.dtype))
            rate = group["lr"] * math.sqrt(max(1.0, steps.shape[1] / steps.shape[2]))
            shaped = [one.view(weights[k].shape) for k, one in zip(same, steps, strict=True)]
            # in the weights' own format: sums of unlike ones are taken one by one
            shaped = [one.to(weights[k].dtype) for k, one in zip(same, shaped, strict=True)]
            torch._foreach_add_([weights[k] for k in same], shaped, alpha=-rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (N, r, c) with their singular values brought near 1, between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.mT if tall else x


def _by_shape(weights: list[Tensor]) -> Iterable[list[int]]:
    """The places of weights of the same shape, together."""
    places: dict[torch.Size, list[int]] = {}
    for place, weight in enumerate(weights):
        places.setdefault(weight.shape, []).append(place)
    return places.values()


def hidden_matrices(weights: dict[str, nn.Parameter], edges: Iterable[str]) -> list[nn.Parameter]:
    """The weights that Muon is for: matrices and convolutions, but for those of the `edges`.

    `edges` are names of the parts where a network begins and ends, which take AdamW.
    """
    outer = {*edges}
    return [
        weight
        for name, weight in weights.items()
        if weight.ndim >= 2 and name.endswith("weight") and outer.isdisjoint(name.split("."))
    ]
