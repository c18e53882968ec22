"""Averaged weights: exponential moving averages of several lengths, of what is trained alone."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Weights = Mapping[str, nn.Parameter]  # name in the module -> a parameter that is trained
Averages = dict[int, dict[str, Tensor]]  # half-life in images -> name -> averaged weight


def start_averages(weights: Weights, half_lives: Iterable[int]) -> Averages:
    """One average for each half-life, all beginning at the present weights."""
    return {
        half_life: {name: weight.detach().clone() for name, weight in weights.items()}
        for half_life in half_lives
    }


@torch.no_grad()
def update_averages(averages: Averages, weights: Weights, seen: int, batch: int) -> None:
    """Move each average towards the weights after a step of `batch` images, `seen` before it.

    a <- d a + (1 - d) w with d = 2 ** (-batch / half_life): after `half_life` images a weight
    counts half. A young run averages over its own age, or the initial weights would weigh in.
    """
    for half_life, average in averages.items():
        decay = 0.5 ** (batch / min(half_life, seen // 4 + batch))
        torch._foreach_lerp_([average[name] for name in weights], [*weights.values()], 1 - decay)


@contextmanager
def swapped(weights: Weights, average: dict[str, Tensor] | None) -> Iterator[None]:
    """Put the averaged weights into the module for a while; afterwards both are as they were.

    Values are exchanged in place, so that compiled code and shards keep their storage, one tensor
    at a time, so that memory for a single one is enough. None: the weights stay.
    """
    exchange(weights, average or {})
    try:
        yield
    finally:
        exchange(weights, average or {})


@torch.no_grad()
def exchange(weights: Weights, others: dict[str, Tensor]) -> None:
    """Exchange the values of `others` with the weights of the same names."""
    for name, other in others.items():
        kept = weights[name].clone()
        weights[name].copy_(other)
        other.copy_(kept)
