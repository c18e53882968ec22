"""What the loop asks of a method, which rows it trains on, and the draws that all methods share."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.pairs.table import Pairs


class Method(Protocol):
    """One way to train: which module, what loss, what validation, what is saved.

    A method may also have `parameter_groups()`, a list of {"params", "lr_scale", "weight_decay"};
    `before_step(seen)`, told the images seen before it, and `after_step()`; `sample(module)`,
    images on fixed prompts; `flops_per_image`, of a training step; `few_shapes`, True where its
    batches have so few shapes that each is worth compiling for; `edges`, for Muon, the names of the
    parts of its networks that are not hidden; and `keeps_last`, True where the last weights come
    out whatever their validation loss. Parameters that do not require gradients are neither
    optimised nor stored.
    """

    name: str
    module: nn.Module
    row_weights: Tensor  # (N,) float64: how often each training row is drawn

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of training rows; the entry `loss` is what is minimised.

        `rows` (B,) are indices into `row_weights`. Every random number comes from `draw`.
        """
        ...

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Deterministic figures on rows never trained on; the entry `loss` chooses the best."""
        ...

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write what was trained into a new folder."""
        ...


@dataclass(frozen=True)
class Rows:
    """The rows of a table that a run trains on and validates on."""

    train: list[int]
    held_out: list[int]
    weights: Tensor  # (len(train),) float64: how often each is drawn
    importance: Tensor  # (len(train),) float32: what its loss counts


def choose_rows(
    pairs: Pairs,
    plan: Optimisation,
    *,
    label: str | None = None,
    prior: Sequence[int] = (),
    prior_share: float = 0.0,
    prior_weight: float = 1.0,
) -> Rows:
    """The rows of the splits train and val, only those of `label` if one is given.

    Rows `prior` are drawn too, `prior_share` of the time, and their loss counts `prior_weight`.
    Without any held-out row, the training rows are validated on.

    Raises VesaliusError when no row is left to train on.
    """
    labels, sources, skipped = pairs.column("label"), pairs.column("source"), set(prior)

    def of(split: str) -> list[int]:
        rows = [row for row in pairs.rows(split) if row not in skipped]
        return [row for row in rows if label is None or labels[row] == label]

    train = of("train")
    if not train:
        known = ", ".join(sorted({str(name) for name in labels})[:8])
        raise VesaliusError(
            "the pairs table has no rows in the split train"
            + (f" with the label {label!r}: its labels are {known}" if label is not None else "")
        )
    weights = row_weights(
        [sources[row] for row in train],
        plan.temperature,
        [labels[row] for row in train] if plan.balance == "label" else None,
    )
    importance = torch.ones(len(train) + len(prior))
    if prior:
        importance[len(train) :] = prior_weight
        others = torch.full((len(prior),), prior_share / len(prior), dtype=torch.float64)
        weights = torch.cat([weights / weights.sum() * (1 - prior_share), others])
    return Rows([*train, *prior], of("val") or train, weights, importance)


def generator(*parts: int | str) -> torch.Generator:
    """A random generator that is a function of its parts alone, such as (seed, images seen)."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def on_device(draw: torch.Generator, device: str) -> torch.Generator:
    """A generator on `device` seeded by one draw of `draw`, so that noise need not travel there."""
    seed = int(torch.randint(2**62, (), generator=draw))
    return torch.Generator(device).manual_seed(seed)


def row_weights(
    sources: Sequence[str], temperature: float, labels: Sequence[str] | None = None
) -> Tensor:
    """Sampling weight of every row: a set of n images is drawn with total weight n ** temperature.

    1 draws every image equally often, 0 every set; between them small sets are lifted without
    being repeated so often that they are memorised. With `labels`, the labels within a set are
    drawn equally often, and the images of a label too. (N,) float64.
    """
    counts = Counter(sources)
    if labels is None:
        weight = {name: count ** (temperature - 1) for name, count in counts.items()}
        return torch.tensor([weight[name] for name in sources], dtype=torch.float64)
    pairs = list(zip(sources, labels, strict=True))
    cells = Counter(pairs)
    kinds = Counter(source for source, _ in cells)
    each = {
        (source, label): counts[source] ** temperature / (kinds[source] * count)
        for (source, label), count in cells.items()
    }
    return torch.tensor([each[pair] for pair in pairs], dtype=torch.float64)
