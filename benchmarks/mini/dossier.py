"""Figures of the bundled model's dossier, from what `vesalius evaluate` has written. No image in them.

    vesalius plan --pairs PAIRS --total 1400 --share real --out plan.csv
    vesalius synthesize plan.csv --out SET
    vesalius evaluate --real SUB --synthetic mini=SET --model mini --by source --match \
      --extractors inception --only fidelity,diversity --store STORE --out INCEPTION
    vesalius evaluate --real PAIRS --synthetic mini=SET --model mini --by source --match \
      --extractors efficientnet-lite0 --only privacy --store STORE --out EVIDENCE
    vesalius evaluate --real PAIRS --synthetic mini=SET --model mini --by source \
      --extractors efficientnet-lite0 --only membership,cost --store STORE --out MEMBERSHIP
    vesalius evaluate --real PAIRS --synthetic mini=SET --model mini --only alignment \
      --extractors efficientnet-lite0 --store STORE --out LABELS
    python -m benchmarks.mini.dossier --evidence INCEPTION EVIDENCE --labels LABELS \
      --out docs/figures

PAIRS is the table of `make mini`; SUB has 1,600 of its training rows and 1,600 of its test rows at
random (NumPy's default_rng(0)), for Inception is slow on a CPU. --out gets three SVG files, and the
tables of docs/dossier.md are printed.
"""

import argparse
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.core.atomic import atomic_path
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.report.words import short, spoken
from vesalius.statistics.figure import POOLED, pick

INK, SOFT, LINE, BLUE = "#1d2430", "#5b6472", "#dde1e7", "#24679f"
FEW = 10  # synthetic images with a label
NAMES, PLOT, TOLD, ROW = 225, 330, 190, 22  # pixels: columns, and the height of a line
Figure = Mapping[str, Any]


@dataclass(frozen=True)
class Dot:
    """A figure and how it is drawn."""

    figure: Figure
    colour: str = BLUE
    hollow: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a chart: dots beside each other, grey ticks for real images, words at the end."""

    name: str
    dots: Sequence[Dot]
    floors: Sequence[float]
    told: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--evidence", type=Path, nargs="+", required=True, help="by source")
    parser.add_argument("--labels", type=Path, required=True, help="by label, alignment")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    args = parser.parse_args()
    documents = [read(folder) for folder in args.evidence]
    (name,) = documents[0]["sets"]
    figures = [f for each in documents for f in each["sets"][name]["figures"]]
    of_model = [f for each in documents for f in each["model"]["figures"]]
    judged = read(args.labels)["sets"][name]["figures"]
    spaces: dict[str, Any] = {}
    for each in documents:
        spaces |= each["sets"][name]["details"].get("privacy", {}).get("spaces", {})
    args.out.mkdir(parents=True, exist_ok=True)
    for file, picture in (
        ("dossier-likeness", likeness(figures)),
        ("dossier-labels", consistency(judged)),
        ("dossier-copies", nearness(figures, spaces)),
    ):
        with atomic_path(args.out / f"{file}.svg") as path:
            path.write_text(picture, "utf-8")
    print(tables(of_model, figures, judged))


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def likeness(figures: Sequence[Figure]) -> str:
    """FID by set, to held-out and to trained images, beside that of real images."""
    rows = []
    for figure in pick(figures, metric="fid", extractor="inception", reference=HELD_OUT):
        if figure["value"] is None:
            continue
        where = {"metric": "fid", "extractor": "inception", "of": figure["of"]}
        trained = pick(figures, reference=TRAIN, **where)
        own = at_floor(figure)
        known = [f for f in trained if f["value"] is not None]
        alike = [f for each in known for f in (each, at_floor(each)) if f["n"] == own["n"]]
        dots = [Dot(own), *(Dot(f, hollow=True) for f in alike[:1])]
        floors = [figure["floor"]] if figure["floor"] is not None else []
        told = f"{own['value']:.0f}, real {short(figure['floor'])}, n {own['n']}"
        rows.append(Row(_named(figure["of"]), dots, floors, told))
    key = "full: to real images it never saw; hollow: to training images; grey: real against real"
    return chart("FID of mini, by set (lower is nearer)", key, rows)


def at_floor(figure: Figure) -> Figure:
    """The figure of as many images as its floor has: without an interval where those are fewer."""
    if figure["at_floor_n"] in (None, figure["value"]):
        return figure
    fewer = {"value": figure["at_floor_n"], "n": figure["floor_n"], "low": None, "high": None}
    return {**figure, **fewer}


def consistency(figures: Sequence[Figure]) -> str:
    """AUROC of each label, in synthetic and in real images."""
    where: dict[str, Any] = {"part": "alignment"}
    rows = []
    for metric in ("mean auroc", "auroc"):
        found = pick(figures, metric=metric, reference="synthetic", **where)
        for figure in sorted(found, key=lambda each: -(each["value"] or 0)):
            # of a label with fewer images the interval says nothing
            if figure["low"] is None or figure["details"].get("positives", FEW) < FEW:
                continue
            real = pick(figures, metric=metric, of=figure["of"], reference=HELD_OUT, **where)
            floors = [each["value"] for each in real if each["value"] is not None]
            told = f"{figure['value']:.2f}, real {floors[0]:.2f}" if floors else ""
            rows.append(Row(_named(figure["of"]), [Dot(figure)], floors, told))
    key = "each told from the others of its set; blue: mini, grey: real held-out images, dashed: chance"
    return chart("Label consistency: AUROC by label", key, rows, span=(0.0, 1.0), guide=0.5)


def nearness(figures: Sequence[Figure], spaces: Mapping[str, Any]) -> str:
    """Shares of images that are as near to a training image as few real ones are."""
    rows = []
    for figure in pick(figures, metric="copies"):
        if figure["value"] is None:
            continue
        honest = spaces[figure["extractor"]]["held_out"]
        dots = [Dot(figure)] + ([Dot(honest, SOFT)] if honest else [])
        count = round(figure["value"] * figure["n"])
        told = f"{count} of {figure['n']}" + (f"; {honest['count']} of {honest['n']}" if honest else "")  # fmt: skip
        rows.append(Row(figure["extractor"], dots, [], told))
    key = "blue: images of mini; grey: real held-out images; dashed: 1 %, which the limits allow"
    return chart("As near to a training image as a copy", key, rows, guide=0.01, percent=True)


def chart(
    title: str,
    key: str,
    rows: Sequence[Row],
    *,
    span: tuple[float, float] | None = None,
    guide: float | None = None,
    percent: bool = False,
) -> str:
    """Dots with their intervals, a line a row."""
    ends = [end for row in rows for dot in row.dots for k in ("value", "low", "high")
            if (end := dot.figure[k]) is not None]  # fmt: skip
    ends += [floor for row in rows for floor in row.floors] + ([guide] if guide else [])
    low, high = span or (0.0, max(ends, default=1.0))
    ticks = rounded(low, high)
    high = ticks[-1]
    top, width = 62, NAMES + PLOT + TOLD
    height = top + ROW * len(rows) + 30

    def at(value: float) -> float:
        return round(NAMES + PLOT * (min(max(value, low), high) - low) / (high - low), 1)

    def text(x: float, y: float, said: str, more: str = "") -> str:
        return f'<text x="{x}" y="{y}" {more}>{html.escape(said)}</text>'

    parts = [text(8, 22, title, 'font-weight="600" font-size="15"')]
    parts.append(text(8, 42, key, f'fill="{SOFT}" font-size="12"'))
    bottom = top + ROW * len(rows)
    for value in ticks:
        parts.append(f'<path d="M{at(value)} {top - 6}V{bottom}" stroke="{LINE}"/>')
        told = f"{short(100 * value)} %" if percent else short(value)
        parts.append(text(at(value), bottom + 18, told, 'text-anchor="middle" font-size="12"'))
    if guide is not None:
        parts.append(f'<path d="M{at(guide)} {top - 6}V{bottom}" stroke="{SOFT}" stroke-dasharray="3 3"/>')  # fmt: skip
    for number, row in enumerate(rows):
        middle = top + ROW * number + ROW / 2 - 4
        parts.append(text(NAMES - 10, middle + 4, row.name, 'text-anchor="end"'))
        for floor in row.floors:
            parts.append(f'<path d="M{at(floor)} {middle - 8}v16" stroke="{SOFT}" stroke-width="3"/>')  # fmt: skip
        for k, dot in enumerate(row.dots):
            y = middle + 7 * (k - (len(row.dots) - 1) / 2)
            if dot.figure["low"] is not None:
                parts.append(f'<path d="M{at(dot.figure["low"])} {y}H{at(dot.figure["high"])}" stroke="{dot.colour}" stroke-width="2" opacity=".55"/>')  # fmt: skip
            fill = "#fff" if dot.hollow else dot.colour
            parts.append(f'<circle cx="{at(dot.figure["value"])}" cy="{y}" r="3.5" fill="{fill}" stroke="{dot.colour}" stroke-width="1.5"/>')  # fmt: skip
        parts.append(text(NAMES + PLOT + 14, middle + 4, row.told, 'font-size="12"'))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="system-ui, sans-serif" font-size="13" '
        f'fill="{INK}"><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def rounded(low: float, high: float) -> list[float]:
    """Round numbers from `low`, 0 or more, to `high` or a little beyond."""
    step = next(
        size * 10.0**power
        for power in range(-4, 7)
        for size in (1, 2, 5)
        if (high - low) / (size * 10.0**power) <= 6
    )
    return [round(low + step * k, 6) for k in range(math.ceil((high - low) / step - 1e-9) + 1)]


def tables(*parts: Sequence[Figure]) -> str:
    """The figures of the page as Markdown: all of whole sets, and FID by set."""
    lines = ["| figure | of | by | against | value | real against real |", "|---|---|---|---|---|---|"]  # fmt: skip
    for figure in (f for part in parts for f in part):
        if figure["of"] != POOLED and figure["metric"] != "fid" and figure["part"] != "cost":
            continue
        told = figure["why"] if figure["value"] is None else spoken(figure, context=False)
        told += f", n = {figure['n']}" if figure["n"] else ""
        floor = f"{short(figure['floor'])}, n = {figure['floor_n']}" if figure["floor"] is not None else ""  # fmt: skip
        if figure["at_floor_n"] not in (None, figure["value"]):
            floor += f" (where mini has {short(figure['at_floor_n'])})"
        cells = (figure["metric"], figure["of"], figure["extractor"], figure["reference"])
        lines.append("| " + " | ".join((*cells, told, floor)) + " |")
    return "\n".join(lines)


def _named(of: str) -> str:
    written = {"mri": "MRI", "ct": "CT", "xray": "X-ray"}
    words = [written.get(word, word) for word in of.split("_")]
    return "all together" if of == POOLED else " ".join(words)


if __name__ == "__main__":
    main()
