"""Figures as `metrics.json` holds them: one flat list, each with all that is needed to judge it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vesalius.statistics.figure import POOLED, Figure

PARTS = ("fidelity", "diversity", "alignment", "privacy", "membership", "cost")


@dataclass
class Result:
    """What a part of the evaluation found for one synthetic set."""

    figures: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # curves, pairs, thresholds: for JSON
    notes: list[str] = field(default_factory=list)  # what a reader must know

    def add(self, part: str, figures: Iterable[Figure], **where: str) -> None:
        """Keep figures, as `record` makes them."""
        self.figures += [record(part, figure, **where) for figure in figures]


def together(results: Iterable[Result]) -> Result:
    """One of several."""
    whole = Result()
    for each in results:
        whole.figures += each.figures
        whole.details |= each.details
        whole.notes += each.notes
    return whole


def record(
    part: str,
    figure: Figure,
    *,
    of: str = POOLED,
    extractor: str = "",
    reference: str = "",
) -> dict[str, Any]:
    """One figure. `of` is a class or "all"; without a value, `why` says what was missing."""
    told = {name: _finite(value) for name, value in figure.as_dict().items()}
    where = {"part": part, "metric": told.pop("name"), "of": of}
    where |= {"extractor": extractor, "reference": reference}
    why = {} if told["value"] is not None else {"why": told["note"] or "not a finite number"}
    details = {name: _finite(value) for name, value in told.pop("details").items()}
    return {**where, **told, "details": details, **why}


def missing(part: str, metric: str, why: str, **where: str) -> dict[str, Any]:
    """The record of a figure that could not be had."""
    return record(part, Figure(metric, None, note=why), **where)


def pick(figures: Iterable[Mapping[str, Any]], **where: Any) -> list[Mapping[str, Any]]:
    """The figures that are all of this, such as metric="fid", of="all"."""
    return [f for f in figures if all(f.get(name) == value for name, value in where.items())]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
