"""The classes of a pairs table, as (source, label), and how many images of each to plan."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from vesalius.errors import VesaliusError
from vesalius.pairs.table import read_pairs
from vesalius.synthesize.settings import HowMany, PlanSettings

MOST_ROWS = 10_000_000  # of one plan, which is held in memory

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class RealClass:
    """The training images of one label of one source: the text columns of a pairs table."""

    source: str
    label: str
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def key(self) -> tuple[str, str]:
        """What no other class has."""
        return self.source, self.label

    @property
    def name(self) -> str:
        """`dermoscopy/mel`, and only the source where its images have no label."""
        return f"{self.source}/{self.label}" if self.label else self.source

    def rows(self, columns: Collection[str]) -> list[dict[str, Any]]:
        """One mapping an image, of those of `columns` that the table has."""
        return self.table.select([n for n in self.table.column_names if n in columns]).to_pylist()

    def values(self, column: str) -> set[str]:
        """What a column says of these images; nothing where there is no such column."""
        held = self.table[column].unique().to_pylist() if column in self.table.column_names else []
        return {str(value) for value in held if value not in (None, "")}

    def lacking(self, column: str) -> int:
        """How many of these images the column says nothing of."""
        return sum(value in (None, "") for value in self.table[column].to_pylist())


def real_classes(pairs: Path | str, asked: PlanSettings) -> list[RealClass]:
    """The classes that the training images of a pairs table are of, by source and label.

    Raises VesaliusError for a source or label that the table does not have, naming those nearest.
    """
    table = read_pairs(pairs).table
    table = table.filter(pc.call_function("equal", [table["split"], "train"]))
    if not table.num_rows:
        raise VesaliusError(
            f"{pairs} has no training images (no row of the split train): make it again with `vesalius pairs`"
        )
    keys = list(zip(*(table[name].to_pylist() for name in ("source", "label")), strict=True))
    known_sources = sorted({source for source, _ in keys})
    for name in asked.sources:
        if name not in known_sources:
            raise VesaliusError(f"{pairs} has no source {name!r}: {nearest(name, known_sources)}")
    members: dict[tuple[str, str], list[int]] = {}
    for index, (source, label) in enumerate(keys):
        if not asked.sources or source in asked.sources:
            members.setdefault((source, label or ""), []).append(index)
    labels = sorted({text for source, label in members for text in (label, f"{source}/{label}")})
    for name in (*asked.include, *asked.exclude):
        if name not in labels:
            plain = sorted({label for _, label in members if label})
            known = labels if "/" in name else plain
            raise VesaliusError(f"no training image has the label {name!r}: {nearest(name, known)}")

    def named(key: tuple[str, str], names: Sequence[str]) -> bool:
        return key[1] in names or "/".join(key) in names

    chosen = [
        key
        for key in sorted(members)
        if (not asked.include or named(key, asked.include)) and not named(key, asked.exclude)
    ]
    if not chosen:
        raise VesaliusError("no class is left: --include and --exclude leave out all of them")
    return [RealClass(*key, table.take(members[key])) for key in chosen]


def how_many(real: Mapping[K, int], amount: HowMany) -> dict[K, int]:
    """Images to plan of each class, from its number of real ones.

    Raises VesaliusError where none are, or more than a plan can hold.
    """
    if not amount.given:
        raise VesaliusError(
            "how many is not said: give one of --balance, --per-class, --ratio and --total"
        )
    if amount.balance:
        counts = {key: max(real.values()) - count for key, count in real.items()}
        if not any(counts.values()):
            raise VesaliusError("all classes have equally many images: nothing is missing")
    elif amount.per_class is not None:
        counts = dict.fromkeys(real, amount.per_class)
    elif (ratio := amount.ratio) is not None:
        counts = {key: int(ratio * count + 0.5) for key, count in real.items()}
    else:
        counts = _shared(
            amount.total or 0, real if amount.share == "real" else dict.fromkeys(real, 1)
        )
    if not any(counts.values()):
        raise VesaliusError(
            f"--ratio {amount.ratio} rounds to 0 images in every class: give a larger one"
        )
    if sum(counts.values()) > MOST_ROWS:
        raise VesaliusError(
            f"{sum(counts.values()):,} images are too many for one plan, {MOST_ROWS:,} are the "
            "most: make several, each with a --seed of its own"
        )
    return counts


def _shared(total: int, weights: Mapping[K, int]) -> dict[K, int]:
    """`total` in proportion to weights, by largest remainders: whole numbers that add up."""
    whole = sum(weights.values())
    counts = {key: total * weight // whole for key, weight in weights.items()}
    left = total - sum(counts.values())
    by_remainder = sorted(weights, key=lambda key: -(total * weights[key] % whole))
    return counts | {key: counts[key] + 1 for key in by_remainder[:left]}


def nearest(name: str, known: Sequence[str]) -> str:
    """What of `known` somebody may have meant by `name`, for the end of a message."""
    if not known:
        return "there is none"
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hints = [f"nearest: {', '.join(near)}"] if near else []
    if not near or len(known) <= 8:
        hints.append(f"known: {', '.join(known[:8])}" + (", ..." if len(known) > 8 else ""))
    return "; ".join(hints)
