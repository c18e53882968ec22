"""Rows of metrics.json, as reports and benchmarks read them."""

from collections.abc import Iterable, Mapping
from typing import Any

from vesalius.statistics.figure import POOLED as POOLED


def pick(figures: Iterable[Mapping[str, Any]], **where: Any) -> list[Mapping[str, Any]]:
    """The figures that are all of this, such as metric="fid", of="all"."""
    return [f for f in figures if all(f.get(name) == value for name, value in where.items())]
