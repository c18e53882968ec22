"""A fused step is the step, however weights and gradients lie in memory."""

import pytest
import torch
from torch import Tensor, nn

from vesalius.train.adamw import AdamW

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def steps(
    kind: type[torch.optim.AdamW], layout: torch.memory_format, of_gradient: object
) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 6, 3, 3, generator=draw).contiguous(memory_format=layout))
    bias = nn.Parameter(torch.randn(8, generator=draw))
    fused = {"fused": True} if kind is AdamW else {"foreach": True}
    optimiser = kind([weight, bias], lr=0.1, weight_decay=0.1, **fused)
    for _ in range(3):
        gradient = torch.randn(8, 6, 3, 3, generator=draw)
        weight.grad = gradient.contiguous(memory_format=of_gradient)  # pyright: ignore
        bias.grad = torch.randn(8, generator=draw)
        optimiser.step()
    assert weight.is_contiguous(memory_format=layout)
    return torch.cat([weight.detach().contiguous().flatten(), bias.detach()])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of_gradient", LAYOUTS)
def test_a_fused_step_is_the_plain_one(layout: torch.memory_format, of_gradient: object):
    """torch's own is wrong where the two differ."""
    plain = steps(torch.optim.AdamW, layout, of_gradient)
    torch.testing.assert_close(steps(AdamW, layout, of_gradient), plain)
