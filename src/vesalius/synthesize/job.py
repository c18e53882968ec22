"""What is to be made, as plain data: the same for every worker, on every machine. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius.synthesize.plan import PlanRow

if TYPE_CHECKING:
    from vesalius.sample.generate import TextToImage
    from vesalius.synthesize.guard import Judge


@dataclass(frozen=True)
class Job:
    """A plan, the model that draws it, and the set that it becomes; see `engine.synthesize`."""

    rows: Sequence[PlanRow]
    plan: str  # its digest
    out: Path
    work: Path  # a folder in `out` for what is not whole yet
    model: "str | TextToImage"
    adapters: tuple[str, ...]
    device: str
    dtype: str
    guard: "Judge | Path | str | None"
    attributes: tuple[str, ...]  # that any row has
    chunk: int  # rows
    batch_size: int | None
    format: str
    bits: int
    store: str
    attempts: int  # images drawn for a row, at most
    defaults: dict[str, Any]  # for rows that leave them empty
    compiled: bool

    def of(self, number: int) -> Sequence[PlanRow]:
        """The rows of a chunk."""
        return self.rows[number * self.chunk : (number + 1) * self.chunk]

    @property
    def chunks(self) -> int:
        """How many there are; the last may be shorter."""
        return -(-len(self.rows) // self.chunk)
