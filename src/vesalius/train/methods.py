"""What the loop asks of a method, and the draws that every method shares."""

import hashlib
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


class Method(Protocol):
    """One way to train: which module, what loss, what validation, what is saved."""

    name: str
    module: nn.Module
    sources: list[str]  # the set of every training row, for the sampling temperature

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of training rows; the entry `loss` is what is minimised."""
        ...

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Deterministic figures on rows never trained on; the entry `loss` chooses the best."""
        ...

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write the trained module into a new folder, in the diffusers layout."""
        ...


def generator(*parts: int | str) -> torch.Generator:
    """A random generator that is a function of its parts alone, such as (seed, images seen)."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def on_device(draw: torch.Generator, device: str) -> torch.Generator:
    """A generator on `device` seeded by one draw of `draw`, so that noise need not travel there."""
    seed = int(torch.randint(2**62, (), generator=draw))
    return torch.Generator(device).manual_seed(seed)


def row_weights(sources: list[str], temperature: float) -> Tensor:
    """Sampling weight of every row: a set of n images is drawn with total weight n ** temperature.

    1 draws every image equally often, 0 every set; between them small sets are lifted without
    being repeated so often that they are memorised.
    """
    counts = {name: sources.count(name) for name in set(sources)}
    weight = {name: count ** (temperature - 1) for name, count in counts.items()}
    return torch.tensor([weight[name] for name in sources], dtype=torch.float64)
