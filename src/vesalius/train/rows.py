"""Which rows of a pairs table are trained on, how often, and which are held out."""

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.train.draws import generator

SAMPLES = 8  # of which a sheet is drawn


class TrainingPairs(Pairs):
    """The rows of a table that training reads, train and val; then another table's training rows.

    The rows that no split uses are left out, so that they are not encoded.
    """

    def __init__(self, first: Pairs, second: Pairs | None = None) -> None:
        self.first, self.second, self.captions = first, second, True
        own = [(first, row) for row in sorted([*first.rows("train"), *first.rows("val")])]
        more = [(second, row) for row in second.rows("train")] if second else []
        self.own, self.places = len(own), own + more

    def __len__(self) -> int:
        return len(self.places)

    def column(self, name: str) -> list[str]:
        if name == "caption" and not self.captions:
            return [""] * len(self)
        tables = {id(table): table.column(name) for table in (self.first, self.second) if table}
        values = [tables[id(table)][row] for table, row in self.places]
        # a row without one is trained on with the empty caption
        return [value or "" for value in values] if name == "caption" else values

    def encoded(self, index: int) -> bytes:
        table, row = self.places[index]
        return table.encoded(row)

    def reading(self, *, captions: bool) -> "TrainingPairs":
        """The same rows; without captions all have the empty one, and none is encoded for nothing."""
        same = copy.copy(self)
        same.captions = captions
        return same

    def few(self, wanted: Sequence[int], most: int) -> "TrainingPairs":
        """A part of the table: up to `most` rows of each split, spread over those that are `wanted`."""
        kept: list[int] = []
        splits, wanted_rows = self.column("split"), set(wanted)
        for split in ("train", "val"):
            rows = [row for row in sorted(wanted_rows) if splits[row] == split]
            kept += rows[:: max(1, -(-len(rows) // most))]
        part = copy.copy(self)
        part.places = [self.places[row] for row in sorted(kept)]
        part.own = sum(row < self.own for row in kept)
        return part

    def added(self) -> list[int]:
        """The rows of the second table."""
        return list(range(self.own, len(self)))


def open_pairs(path: Path | str) -> Pairs:
    """A pairs table that a model can learn words from. Raises VesaliusError without captions."""
    pairs = read_pairs(path)
    if not any(caption and caption.strip() for caption in pairs.column("caption")):
        raise VesaliusError(
            f"{path} has no captions, and a model that reads text needs some: make it again with "
            "`vesalius pairs SOURCE --captions DICTIONARY`"
        )
    return pairs


@dataclass(frozen=True)
class Rows:
    """The rows of a table that a run trains on and validates on."""

    train: list[int]
    held_out: list[int]
    weights: Tensor  # (len(train),) float64: how often each is drawn
    importance: Tensor  # (len(train),) float32: what its loss counts

    def validated(self, plan: Optimisation, draw: torch.Generator | None = None) -> list[int]:
        """The held-out rows that the loss is measured on: `validation_size` of them, drawn once."""
        draw = draw or generator(plan.seed, "validation")
        count = min(plan.validation_size, len(self.held_out))
        order = torch.randperm(len(self.held_out), generator=draw)[:count]
        return [self.held_out[place] for place in order.tolist()]


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


def images_encoded(pairs: Pairs, views: int, validated: Collection[int]) -> int:
    """How many images a run encodes: the training rows in all their views, and those validated."""
    symmetry, train = pairs.column("symmetry"), pairs.rows("train")
    symmetric = sum(symmetry[row] == "square" for row in train)
    return len(train) + symmetric * (views - 1) + len({*pairs.rows("val")}.intersection(validated))


def sample_prompts(prompts: list[str], pairs: Pairs, rows: Rows) -> list[str]:
    """The prompts of samples: without any, the first captions of the held-out rows."""
    captions = pairs.column("caption")
    return prompts or list(dict.fromkeys(captions[row] for row in rows.held_out))[:SAMPLES]
