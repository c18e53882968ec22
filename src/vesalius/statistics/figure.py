"""A figure with all that is needed to judge it, and where it stands in an evaluation."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

POOLED = "all"


@dataclass(frozen=True)
class Figure:
    """One figure and all that is needed to judge it.

    `low` and `high` are the 95 % interval. `floor` is the figure of real images against other real
    images, `floor_n` of them on each side; `at_floor_n` is that of as many synthetic images against
    as many real ones, the only one to compare with the floor. What is None is missing, and `note`
    says why.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0  # synthetic images
    n_real: int = 0
    floor: float | None = None
    floor_n: int = 0
    at_floor_n: float | None = None
    note: str = ""
    details: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """A figure and what it is of: a row of metrics.json. Numbers that are not finite are None."""

    part: str  # of the evaluation, such as "fidelity"
    metric: str
    of: str  # a class, or POOLED
    extractor: str
    reference: str  # what it was compared with
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_real: int
    floor: float | None
    floor_n: int
    at_floor_n: float | None
    note: str
    details: dict[str, float | None]

    @property
    def why(self) -> str:
        """Why there is no value."""
        return (self.note or "not a finite number") if self.value is None else ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `why` is only there where the value is missing."""
        return asdict(self) | ({"why": self.why} if self.value is None else {})


def measured(
    part: str, figure: Figure, *, of: str = POOLED, extractor: str = "", reference: str = ""
) -> Measured:
    """A figure in its place."""
    values = {name: _finite(value) for name, value in vars(figure).items()}
    metric, details = values.pop("name"), values.pop("details")
    details = {name: _finite(value) for name, value in details.items()}
    return Measured(part, metric, of, extractor, reference, **values, details=details)


def missing(part: str, metric: str, why: str, **where: str) -> Measured:
    """A figure that could not be measured, and why."""
    return measured(part, Figure(metric, None, note=why), **where)


def select(figures: Iterable[Measured], **where: Any) -> list[Measured]:
    """The figures that are all of this, such as metric="fid", of="all"."""
    return [f for f in figures if all(getattr(f, name) == value for name, value in where.items())]


def pick(rows: Iterable[Mapping[str, Any]], **where: Any) -> list[Mapping[str, Any]]:
    """The same of the rows of metrics.json, as reports read them."""
    return [row for row in rows if all(row.get(name) == value for name, value in where.items())]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
