"""What the pages draw, as places in percent of a plot, so that a page can be any width.

templates/macros.html.j2 turns them into SVG. A series of -1 is real images, others are numbered.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vesalius.report.words import Figure, counted, short, spoken

REAL = -1
_COLOURS = 5  # of series, in templates/base.html.j2
_MOST_STEPS = 5  # between the ticks of a scale


@dataclass(frozen=True)
class Scale:
    """An axis between two ends."""

    ticks: tuple[float, ...]

    def place(self, value: float | None) -> float | None:
        """Percent from the low end; what lies beyond an end stands at it."""
        if value is None:
            return None
        low, high = self.ticks[0], self.ticks[-1]
        return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)

    def labels(self, text: Callable[[float], str] = short) -> list[tuple[float, str]]:
        """Place and text of each tick."""
        return [(self.place(tick) or 0.0, text(tick)) for tick in self.ticks]


def round_scale(low: float, high: float, least_step: float = 0.0, end: float = math.inf) -> Scale:
    """A scale whose round ticks hold both: three to seven, as a rule; none is beyond `end`."""
    step = max(round_step(high - low, _MOST_STEPS), least_step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    if last * step > end >= high:
        last = math.floor(end / step + 1e-9)
        first = min(first, last - 1)
    return Scale(tuple(round(k * step, 10) for k in range(first, last + 1)))


def round_step(span: float, most: int) -> float:
    """The smallest of 1, 2 and 5 times a power of ten of which at most `most` make the span."""
    if span <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(span / most))
    return next(k * power for k in (1, 2, 5, 10) if span / (k * power) <= most * (1 + 1e-9))


@dataclass(frozen=True)
class Mark:
    """A figure with its interval; places in percent."""

    x: float
    low: float | None
    high: float | None
    series: int
    title: str
    hollow: bool = False  # against training images
    at_floor_n: float | None = None


@dataclass(frozen=True)
class Text:
    """A figure in words, beside the plot."""

    value: str
    interval: str = ""
    small: str = ""  # on a line of its own
    series: int | None = None  # a dot of its colour stands before it


@dataclass(frozen=True)
class Row:
    """A line of a plot: a class, or an arm."""

    name: str
    marks: list[Mark]
    texts: list[Text]
    about: str = ""
    floors: list[float] = field(default_factory=list)  # percent
    missing: list[str] = field(default_factory=list)  # why there is no mark


@dataclass(frozen=True)
class Plot:
    """Rows over one axis."""

    title: str
    about: str
    rows: list[Row]
    ticks: list[tuple[float, str]]
    guide: float | None = None  # percent
    left_out: list[str] = field(default_factory=list)  # sentences about rows that are not there
    band: tuple[float, float] | None = None  # low end and width of a shaded part, percent


@dataclass(frozen=True)
class Series:
    """A figure and how it is drawn."""

    figure: Figure
    series: int
    name: str
    hollow: bool = False

    @property
    def in_words(self) -> bool:
        """Whether it stands in words beside the plot, too."""
        return not self.hollow


def interval_plot(
    title: str,
    about: str,
    rows: Sequence[tuple[str, Sequence[Series]]],
    *,
    span: tuple[float, float] | None = None,
    guide: float | None = None,
    band: tuple[float, float] | None = None,
    shares: bool = False,
) -> Plot | None:
    """A plot of figures with intervals and floors; None where no row has a value.

    `shares` are written in percent and as counts. `band` is shaded, such as a margin. Rows without a
    value are named below the plot.
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
    ends = [0.0, *values, *([] if guide is None else [guide]), *(band or ())]
    scale = round_scale(*(span or (min(ends), max(ends))))
    every = [_row(name, row, scale, shares) for name, row in rows]
    return Plot(
        title,
        about,
        [row for row in every if row.marks],
        scale.labels(lambda tick: f"{short(100 * tick)} %" if shares else short(tick)),
        scale.place(guide),
        _left_out(row for row in every if not row.marks),
        _band(scale, band),
    )


def _band(scale: Scale, band: tuple[float, float] | None) -> tuple[float, float] | None:
    """Where it begins, and its width."""
    if band is None:
        return None
    low, high = (scale.place(end) or 0.0 for end in band)
    return low, round(high - low, 2)


def _left_out(rows: Iterable[Row]) -> list[str]:
    """Which rows have no mark, and why: one sentence a reason."""
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.missing[0] if row.missing else "not measured", []).append(row.name)
    return [f"Not measured for {', '.join(each)}: {why}." for why, each in names.items()]


def _row(name: str, series: Sequence[Series], scale: Scale, shares: bool) -> Row:
    known = [each for each in series if each.figure["value"] is not None]
    shown = [each for each in known if each.in_words]
    floors = {scale.place(each.figure["floor"]) for each in shown} - {None}
    words = counted if shares else lambda figure: spoken(figure, context=False)
    return Row(
        name,
        [_mark(each, scale) for each in known],
        [Text(words(each.figure), series=each.series) for each in shown],
        floors=sorted(floor for floor in floors if floor is not None),
        missing=list(dict.fromkeys(s.figure["why"] for s in series if s.figure["value"] is None)),
    )


def _mark(each: Series, scale: Scale) -> Mark:
    figure = each.figure
    apart = figure["at_floor_n"] not in (None, figure["value"])
    x, low, high = (scale.place(figure[key]) for key in ("value", "low", "high"))
    title = f"{each.name}: {spoken(figure)}"
    at_floor_n = scale.place(figure["at_floor_n"]) if apart else None
    return Mark(x or 0.0, low, high, each.series, title, each.hollow, at_floor_n)


@dataclass(frozen=True)
class Point:
    """A point of a curve; places in percent from the left and the top."""

    x: float
    y: float | None
    low: float | None
    high: float | None
    title: str


@dataclass(frozen=True)
class Line:
    """The points of one series, joined."""

    name: str
    series: int
    points: list[Point]


@dataclass(frozen=True)
class Curves:
    """Lines over a logarithmic axis of counts."""

    lines: list[Line]
    ticks: list[tuple[float, str]]  # from the top
    counts: list[tuple[float, str]]  # from the left


def curves(
    figures: Mapping[str, Sequence[tuple[int, Figure]]],
    scale: Scale,
    title: Callable[[int, Figure], str],
) -> Curves:
    """A figure over a count, for each series the points (count, figure); the first is of real images."""
    counts = sorted({n for points in figures.values() for n, _ in points})
    across = Scale((math.log(counts[0]), math.log(max(counts[-1], counts[0] + 1))))

    def left(n: int, number: int = 0) -> float:
        """With room at both ends; series side by side, so that intervals do not hide each other."""
        return round(4 + 0.9 * (across.place(math.log(n)) or 0.0) + 0.8 * number, 2)

    def top(value: float | None) -> float | None:
        place = scale.place(value)
        return None if place is None else round(100 - place, 2)

    def point(n: int, figure: Figure, number: int) -> Point:
        y, low, high = (top(figure[key]) for key in ("value", "low", "high"))
        return Point(left(n, number), y, low, high, title(n, figure))

    lines = [
        Line(name, number - 1, [point(n, f, number) for n, f in sorted(points, key=lambda p: p[0])])
        for number, (name, points) in enumerate(figures.items())
    ]
    ticks = [(round(100 - at, 2), text) for at, text in scale.labels()]
    return Curves(lines, ticks, [(left(n), f"{n:,}") for n in counts])


def roc_points(points: Iterable[Sequence[float]]) -> str:
    """A curve from (0, 0) to (1, 1) for a polyline in a box of 100 by 100, top left first."""
    return " ".join(f"{100 * x:.1f},{100 - 100 * y:.1f}" for x, y in points)


def bars(counts: Sequence[int]) -> list[tuple[float, float, float, float]]:
    """x, y, width and height of the bars of a histogram."""
    width, most = 100 / len(counts), max(counts)
    heights = [round(100 * count / most, 2) for count in counts]
    return [
        (round((k + 0.06) * width, 3), round(100 - height, 2), round(0.88 * width, 3), height)
        for k, height in enumerate(heights)
    ]


def stack(
    row: Mapping[str, int], names: Sequence[str], whole: int
) -> list[tuple[str, float, float]]:
    """Name, x and width of the parts of a bar, as the row counts them; empty ones are left out."""
    placed, before = [], 0
    for name in names:
        if part := row[name]:
            placed.append((name, round(100 * before / whole, 3), round(100 * part / whole, 3)))
        before += part
    return placed


def tone(series: int) -> str:
    """The class of a series' colour in the style sheet."""
    return "real" if series == REAL else f"s{series % _COLOURS}"
