"""What the report draws, as numbers: places in percent of a plot, so that a page can be any width."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Figure = Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """A figure with its interval; places in percent."""

    x: float
    low: float | None
    high: float | None
    series: int  # which synthetic set; -1: real images
    hollow: bool  # against training images
    title: str
    at_floor_n: float | None = None


@dataclass(frozen=True)
class Row:
    """A class."""

    name: str
    marks: list[Mark]
    floors: list[float]  # percent
    texts: list[tuple[int, str]]  # series, what stands beside the plot
    missing: list[str] = field(default_factory=list)  # why there is no mark


@dataclass(frozen=True)
class Plot:
    """Rows over one axis."""

    title: str
    about: str
    rows: list[Row]
    ticks: list[tuple[float, str]]
    guide: float | None = None  # percent
    left_out: list[tuple[str, str]] = field(default_factory=list)  # rows without a mark, and why


@dataclass(frozen=True)
class Series:
    """A figure and how it is drawn."""

    figure: Figure
    series: int
    name: str
    hollow: bool = False
    told: bool = True  # in words beside the plot


def interval_plot(
    title: str,
    about: str,
    rows: Sequence[tuple[str, Sequence[Series]]],
    *,
    span: tuple[float, float] | None = None,
    guide: float | None = None,
    shares: bool = False,
) -> Plot | None:
    """A plot of figures with intervals and floors; None where no row has a value.

    `shares` are told in percent and as counts. Rows without a value are named below the plot.
    """
    values = [
        value
        for _, row in rows
        for each in row
        for key in ("value", "low", "high", "floor", "at_floor_n")
        if (value := each.figure[key]) is not None
    ]
    if not values:
        return None
    ticks = _ticks(*(span or (min(0.0, *values), max(values))))
    low, high = ticks[0], ticks[-1]

    def place(value: float | None) -> float | None:
        if value is None:
            return None
        return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)

    every = [_row(name, row, place, shares) for name, row in rows]
    return Plot(
        title,
        about,
        [row for row in every if row.marks],
        [
            (place(tick) or 0.0, f"{short(100 * tick)} %" if shares else short(tick))
            for tick in ticks
        ],
        place(guide),
        _by_reason(row for row in every if not row.marks),
    )


def _by_reason(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Names with commas, and why there is no mark."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.missing[0] if row.missing else "not measured", []).append(row.name)
    return [(", ".join(names), why) for why, names in found.items()]


def _row(name: str, series: Sequence[Series], place: Any, shares: bool) -> Row:
    marks, texts, floors, missing = [], [], [], []
    for each in series:
        figure = each.figure
        if figure["value"] is None:
            missing.append(figure["why"])
            continue
        apart = figure["at_floor_n"] is not None and figure["at_floor_n"] != figure["value"]
        title = f"{each.name}: {spoken(figure)}"
        marks.append(
            Mark(
                place(figure["value"]),
                place(figure["low"]),
                place(figure["high"]),
                each.series,
                each.hollow,
                title,
                place(figure["at_floor_n"]) if apart else None,
            )
        )
        if each.told and figure["floor"] is not None:
            floors.append(place(figure["floor"]))
        if each.told:
            texts.append((each.series, _counted(figure) if shares else spoken(figure, words=False)))
    return Row(name, marks, sorted(set(floors)), texts, list(dict.fromkeys(missing)))


def spoken(figure: Figure, *, words: bool = True) -> str:
    """A figure with its interval, number and floor; without `words` only the first two."""
    if figure["value"] is None:
        return figure["why"]
    text = _with_interval(figure["value"], figure["low"], figure["high"])
    text += _p(figure)
    if not words:
        return text
    text += f", n = {figure['n']}"
    if figure["floor"] is not None:
        text += f"; real against real {short(figure['floor'])} at n = {figure['floor_n']}"
        if figure["at_floor_n"] not in (None, figure["value"]):
            text += f", where the set has {short(figure['at_floor_n'])}"
    return text


def _counted(figure: Figure) -> str:
    text = f"{round(figure['value'] * figure['n'])} of {figure['n']:,}"
    shares = [f"{100 * each:.1f}" for each in (figure["value"], figure["low"], figure["high"])]
    return f"{text}, {shares[0]} % ({shares[1]} to {shares[2]})" + _p(figure)


def _p(figure: Figure) -> str:
    p = figure.get("details", {}).get("p")
    return "" if p is None else f", p\u00a0=\u00a0{p:.3f}"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    """All three with the decimals of the largest: 0.0102 to 0.2 is 0.01 to 0.20."""
    if low is None or high is None:
        return short(value)
    largest = max(abs(value), abs(low), abs(high))
    if largest >= 1e6 or largest == 0:
        return f"{short(value)} ({short(low)} to {short(high)})"
    digits = min(6, max(0, 2 - math.floor(math.log10(largest))))
    told = [f"{each:,.{digits}f}".replace("-", "−") for each in (value, low, high)]
    return f"{told[0]} ({told[1]} to {told[2]})"


def short(value: float | None) -> str:
    """Three digits that count, no more."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.1f} M" if abs(value) < 1e9 else f"{value / 1e9:,.2f} G"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    if digits > 5:
        return f"{value:.1e}".replace("-", "−")
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that hold both."""
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span))
    step = next(s * power for s in (0.2, 0.5, 1, 2) if span / (s * power) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def roc_points(points: Iterable[Sequence[float]]) -> str:
    """A curve from (0, 0) to (1, 1) for a polyline in a box of 100 by 100, top left first."""
    return " ".join(f"{100 * x:.1f},{100 - 100 * y:.1f}" for x, y in points)
