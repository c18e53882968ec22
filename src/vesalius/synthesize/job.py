"""What is to be made, as plain data: the same for every worker, on every machine. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius.synthesize.plan import PlanRow
from vesalius.synthesize.row_adapters import RowAdapters
from vesalius.synthesize.settings import SynthesizeSettings

if TYPE_CHECKING:
    from vesalius.sample.generate import TextToImage
    from vesalius.synthesize.guard import Judge


@dataclass(frozen=True)
class Job:
    """A plan, the model that draws it, and the set that it becomes.

    A chunk is what is finished at once: `settings.chunk` consecutive rows. Which rows are in it
    follows from the plan alone, so that any number of runs, now or later, agree on it.
    """

    rows: Sequence[PlanRow]
    plan: str  # its digest
    out: Path
    work: Path  # a folder in `out` for what is not whole yet
    settings: SynthesizeSettings
    format: str
    bits: int
    model: "TextToImage | None" = None  # None: the one that the settings name
    guard: "Judge | None" = None
    adapters: RowAdapters = field(default_factory=RowAdapters)

    def of(self, number: int) -> Sequence[PlanRow]:
        """The rows of a chunk."""
        size = self.settings.chunk
        return self.rows[number * size : (number + 1) * size]

    @property
    def chunks(self) -> int:
        """How many there are; the last may be shorter."""
        return -(-len(self.rows) // self.settings.chunk)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The free columns that any row has."""
        return attributes_of(self.rows)


@dataclass(frozen=True)
class Events:
    """What an engine reports to the one who waits for it."""

    begun: Callable[[dict[str, Any], list[str]], None]  # a worker's `about` and its warnings
    drawn: Callable[[float], None]  # rows since the beginning, parts of one included
    said: Callable[[str], object] = lambda message: None  # how a worker computes


def attributes_of(rows: Sequence[PlanRow]) -> tuple[str, ...]:
    """The free columns that any row has."""
    return tuple(dict.fromkeys(name for row in rows for name in row.attributes))


def in_windows(numbers: Sequence[int], rows: int, size: int) -> list[Sequence[int]]:
    """Chunk numbers in groups that together have `rows` rows at least: enough to fill a batch."""
    together = -(-rows // size)
    return [numbers[k : k + together] for k in range(0, len(numbers), together)]
