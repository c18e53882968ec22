"""Charts of the runs on real images for the documentation, from what the runs recorded.

    python -m benchmarks.utility.charts OUT/fundus-NAME.json ... --out docs/figures

One SVG a file: every arm with its interval, one block an amount of real images (or a laboratory).
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.mini.dossier import BLUE, SOFT, Dot, Row, chart
from vesalius.core.atomic import atomic_path

WITHOUT = ("real", "real, oversampled", "real, augmented", "real, class weights")
KEY = "with 95 % intervals; blue: with synthetic images, grey: without; right: real + synthetic images"
STEPS = (0.01, 0.02, 0.04, 0.05, 0.08, 0.1, 0.12, 0.15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="folder for the charts")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.records:
        document = json.loads(path.read_text("utf-8"))
        name = document["benchmark"].partition("-")[0]
        rows = _rows(document["figures"])
        ends = [end for row in rows for dot in row.dots for end in _ends(dot.figure)]
        title = f"{name.replace('_', ' ').capitalize()}: AUROC on real test images"
        with atomic_path(args.out / f"utility-{name.replace('_', '-')}.svg") as out:
            out.write_text(chart(title, KEY, rows, span=_span(ends)), "utf-8")


def _rows(figures: Mapping[str, Any]) -> list[Row]:
    if "budgets" not in figures:  # of blood_cells: by laboratory
        blocks = [(where.split()[0], {n: {"auroc": each["auroc"]} for n, each in arms.items()})
                  for where, arms in figures["arms"].items()]  # fmt: skip
        return [row for where, arms in blocks for row in _block(where, arms)]
    blocks = [(budget["name"], budget["arms"]) for budget in figures["budgets"]]
    return [
        row for name, arms in blocks for row in _block(name if len(blocks) > 1 else "", arms)
    ]  # fmt: skip


def _block(name: str, arms: Mapping[str, Any]) -> list[Row]:
    rows = []
    for arm, told in arms.items():
        figure = told["auroc"]
        if not isinstance(figure, Mapping):
            figure = dict(zip(("value", "low", "high"), figure, strict=True))
        figure = {"low": None, "high": None, **figure}
        counts = f"; {told['real']:,} + {told['synthetic']:,}" if "real" in told else ""
        colour = SOFT if arm in WITHOUT else BLUE
        arm = arm.replace("real+synthetic", "+ synthetic")
        said = f"{name}: {arm}" if name and not rows else arm  # a block is named once
        rows.append(Row(said, [Dot(figure, colour)], [], f"{figure['value']:.3f}{counts}"))
    return rows


def _span(ends: Sequence[float]) -> tuple[float, float]:
    """Round ends of an axis of five steps."""
    for step in STEPS:
        low = min(math.floor(min(ends) / step) * step, 1 - 5 * step)
        if low + 5 * step >= max(ends):
            return low, low + 5 * step
    return 0.0, 1.0


def _ends(figure: Mapping[str, Any]) -> Sequence[float]:
    return [figure[k] for k in ("value", "low", "high") if figure[k] is not None]


if __name__ == "__main__":
    main()
