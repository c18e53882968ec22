"""How the chunks of a plan are divided among runs and among the processes of torchrun."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vesalius.errors import VesaliusError


@dataclass(frozen=True)
class Shard:
    """Share `index`, counted from 0, of `count`: of the chunks, every `count`-th."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def own(self, chunks: int) -> range:
        """The numbers of its chunks, of so many."""
        return range(self.index, chunks, self.count)


def parse_shard(text: str) -> Shard:
    """`0/4` to `3/4`, as SLURM numbers the jobs of `--array=0-3`.

    Raises VesaliusError for anything else.
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if not found:
        raise VesaliusError(f"--shard {text!r}: give it as 0/4, 1/4, 2/4 or 3/4")
    index, count = int(found[1]), int(found[2])
    if index >= count:
        raise VesaliusError(
            f"--shard {text}: shards are counted from 0, so that the last of {count} is "
            f"{max(0, count - 1)}/{count}"
        )
    return Shard(index, count)


def shard_of_process(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that `text` names, divided further among the processes that torchrun started.

    These need not talk to each other: each takes its share and writes it.
    """
    shard = parse_shard(text) if text else Shard()
    rank = int(environment.get("RANK", "0"))
    processes = int(environment.get("WORLD_SIZE", "1"))
    return Shard(shard.index * processes + rank, shard.count * processes)


def device_of_process(device: str, environment: Mapping[str, str] = os.environ) -> str:
    """`device`; where torchrun started several processes, `auto` and `cuda` are one GPU for each."""
    if int(environment.get("WORLD_SIZE", "1")) == 1 or device not in ("auto", "cuda"):
        return device
    import torch

    if not torch.cuda.is_available():
        return device
    local = int(environment.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise VesaliusError(
            f"torchrun starts more processes here than there are GPUs ({torch.cuda.device_count()})"
        )
    return f"cuda:{local}"
