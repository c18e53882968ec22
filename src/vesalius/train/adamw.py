"""AdamW (Loshchilov & Hutter 2019), whose fused step on a CPU works whatever the layout of a weight."""

from typing import Any

import torch
from torch import Tensor


class AdamW(torch.optim.AdamW):
    """torch's; fused on a CPU, it is given every tensor as one row of numbers, as they lie in memory.

    torch's own fused step on a CPU goes along the memory of weight, moments and gradient alike: it
    is wrong where a gradient is laid out in another way than its weight, and copies the gradient of
    each channels-last weight for nothing.
    """

    def _init_group(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, group: dict[str, Any], *lists: Any
    ) -> bool:
        has_complex = super()._init_group(group, *lists)
        parameters, *others = lists[:4]  # then gradients and both moments
        if group["fused"] and parameters and parameters[0].device.type == "cpu":
            for several in others:
                pairs = zip(several, parameters, strict=True)
                several[:] = [in_memory(tensor, parameter) for tensor, parameter in pairs]
            parameters[:] = [in_memory(parameter, parameter) for parameter in parameters]
        return has_complex


def in_memory(tensor: Tensor, like: Tensor) -> Tensor:
    """The numbers of `tensor` (n,) in the order in which those of `like` lie in memory, not copied.

    Copied only where `tensor` is laid out in another way; moments never are.
    """
    if tensor.stride() != like.stride():
        tensor = torch.empty_like(like).copy_(tensor)
    return tensor.as_strided((tensor.numel(),), (1,))
