"""What a study found, typed: figures in their place, sentences, tables, and the document made of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, Literal

from vesalius.errors import VesaliusError
from vesalius.statistics.readers import ByReader, Estimate, over_readers
from vesalius.study.layout import Layout

FORMAT = 1  # of results.json
ALL = "all"
Status = Literal["holds", "unproven", "warning", "note"]


@dataclass(frozen=True)
class Place:
    """What a figure is of; `ALL` where it is of all of them."""

    task: str
    phase: str = "reading"
    reader: str = ALL
    arm: str = ALL
    label: str = ALL
    specialty: str = ALL
    years: str = ALL
    half: str = ALL

    @property
    def pooled(self) -> bool:
        """Whether it is of all readers and labels."""
        return {self.reader, self.label, self.specialty, self.years, self.half} == {ALL}


@dataclass(frozen=True)
class StudyFigure:
    """A figure with its 95 % interval. What is None is missing, and `why` says why."""

    place: Place
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0  # answers
    readers: int = 0
    cases: int = 0
    scope: str = ""  # "readers and cases", "these readers only"; empty where there is no interval
    note: str = ""
    se: float | None = None
    df: float | None = None
    p: float | None = None
    why: str = ""

    def is_not(self, value: float) -> bool:
        """Whether the interval leaves a value out."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    def as_dict(self) -> dict[str, Any]:
        """A row of results.json: the place beside the figure."""
        own = asdict(self)
        return own.pop("place") | {name: _finite(value) for name, value in own.items()}


@dataclass(frozen=True)
class Sentence:
    """What was shown, or was not."""

    status: Status
    message: str
    task: str = ""


@dataclass(frozen=True)
class Table:
    """Counts that are no figures: distributions, confusions, words."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    task: str = ""
    note: str = ""


@dataclass(frozen=True)
class Found:
    """What one task and phase gave."""

    task: str
    phase: str
    figures: Sequence[StudyFigure]
    sentences: Sequence[Sentence]
    tables: Sequence[Table] = ()

    def get(self, metric: str, **place: str) -> StudyFigure | None:
        """One figure, of all unless `place` says otherwise."""
        wanted = replace(Place(self.task, self.phase), **place)
        found = (f for f in self.figures if f.metric == metric and f.place == wanted)
        return next(found, None)


@dataclass(frozen=True, repr=False)
class StudyResults:
    """What a study found, and where its report is."""

    folder: Path
    found: Sequence[Found]
    sentences: Sequence[Sentence]  # of the whole study; those of a task are in `found`
    document: Mapping[str, Any] = field(compare=False)  # of results.json

    @property
    def report(self) -> Path:
        """The page."""
        return Layout(self.folder).report

    def __iter__(self) -> Iterator[Sentence]:
        yield from self.sentences
        for each in self.found:
            yield from each.sentences

    def __repr__(self) -> str:
        lines = [f"{s.task + ': ' if s.task else ''}{s.message}" for s in self]
        return "\n".join([f"Study in {self.folder}", *lines])

    def _repr_html_(self) -> str:
        return "<br>".join(escape(line) for line in repr(self).splitlines())


def estimated(place: Place, metric: str, by: ByReader) -> tuple[StudyFigure, Estimate | None]:
    """The figure over readers, and what its tests need; None where it cannot be measured."""
    try:
        estimate = over_readers(by)
    except VesaliusError as error:
        return StudyFigure(place, metric, None, why=str(error)), None
    low, high = estimate.interval()
    figure = StudyFigure(
        place,
        metric,
        estimate.value,
        low,
        high,
        n=int(by.judged[:, by.used].sum()),
        readers=estimate.readers,
        cases=estimate.cases,
        scope=estimate.scope,
        note="; ".join(estimate.notes),
        se=estimate.se,
        df=estimate.df,
    )
    return figure, estimate


def missing(place: Place, metric: str, why: str) -> StudyFigure:
    """A figure that cannot be measured."""
    return StudyFigure(place, metric, None, why=why)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
