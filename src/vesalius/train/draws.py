"""Random generators that are functions of what they are for, so that a stopped run draws the same."""

import hashlib

import torch


def generator(*parts: int | str) -> torch.Generator:
    """A random generator that is a function of its parts alone, such as (seed, images seen)."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def on_device(draw: torch.Generator, device: str) -> torch.Generator:
    """A generator on `device` seeded by one draw of `draw`, so that noise need not travel there."""
    seed = int(torch.randint(2**62, (), generator=draw))
    return torch.Generator(device).manual_seed(seed)
