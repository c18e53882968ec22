"""What a utility experiment leaves behind: results, one page that needs no other file, predictions."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vesalius.core.atomic import atomic_path, told_plainly
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.images.sheets import data_uri
from vesalius.report.page import template
from vesalius.utility.arms import KINDS, WITHOUT
from vesalius.utility.folds import Fold
from vesalius.utility.pool import Pool

if TYPE_CHECKING:
    from vesalius.utility.grid import Run

RESULTS, REPORT, PREDICTIONS = "results.json", "report.html", "predictions.parquet"
THUMB_SIDE = 112  # pixels
MOST_CLASSES = 12  # with pictures
_NEEDED_BYTES = 50_000_000
SCORES = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "brier": "Brier score",
}
ABOUT = {
    "real": "the real images, each as often as any other",
    "oversampled": "the real images, every class equally often",
    "augmented": "the real images, strongly augmented",
    "weighted": "the real images, rare classes weighing more in the loss",
    "synthetic": "synthetic images alone",
    "mixed": "real and synthetic images together; x is synthetic images for a real one",
    "pretrained": "half of the steps on synthetic images, then half on real ones",
    "minority": "synthetic images only for classes that have fewer real ones",
}


def write_report(
    document: Mapping[str, Any],
    pool: Pool,
    folds: Sequence[Fold],
    found: Mapping[str, Mapping[str, "Run"]],
    out: Path,
    *,
    samples: int,
) -> None:
    """Write results.json, report.html and predictions.parquet, each whole or not at all."""
    import pyarrow.parquet as pq

    page = render(document, _samples(pool, folds, samples))
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    table = predictions(pool, folds, found)
    with (
        told_plainly(out, _NEEDED_BYTES),
        atomic_path(out / PREDICTIONS) as rows,
        atomic_path(out / REPORT) as html,
        atomic_path(out / RESULTS) as results,
    ):
        pq.write_table(table, rows, compression="zstd")
        # names of files that are not UTF-8 hold lone surrogates
        html.write_text(page, "utf-8", errors="backslashreplace")
        results.write_text(text, "utf-8", errors="backslashreplace")


def predictions(pool: Pool, folds: Sequence[Fold], found: Mapping[str, Mapping[str, "Run"]]) -> Any:
    """Every test probability: a row an image, seed, arm and budget.

    `sha1` names the image, `group` numbers its patient, who is not named.
    """
    import pyarrow as pa

    rows = np.concatenate([fold.test for fold in folds])
    part = np.concatenate([np.full(len(fold.test), k) for k, fold in enumerate(folds)])
    named = [pool.real.groups[k] or f"\0{k}" for k in rows]
    groups = np.unique(named, return_inverse=True)[1]
    keys = [pool.real.keys[k] for k in rows]
    labels = [pool.real.labels[k] for k in rows]
    tables = []
    for budget, runs in found.items():
        for name, run in runs.items():
            for seed, p in enumerate(run.probabilities):
                columns = {
                    "budget": pa.array([budget] * len(rows)).dictionary_encode(),
                    "arm": pa.array([name] * len(rows)).dictionary_encode(),
                    "seed": np.full(len(rows), seed),
                    "fold": part,
                    "sha1": keys,
                    "group": groups,
                    "label": labels,
                }
                columns |= {
                    f"p_{c}": p[:, k].astype(np.float32) for k, c in enumerate(pool.classes)
                }
                tables.append(pa.table(columns))
    return pa.concat_tables(tables).unify_dictionaries()


def render(document: Mapping[str, Any], samples: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page of a document of results.json; with samples as `_samples` makes them."""
    return template("utility").render(
        d=document,
        samples=samples,
        plots=[arms_plot(document, budget) for budget in reversed(document["budgets"])],
        curves=learning_curves(document),
        by_class=_by_class(document),
        scores=SCORES,
        about={kind: ABOUT[kind] for kind in KINDS},
        families={
            "help": "with synthetic images against real images alone",
            "worth": "with synthetic images against the best arm without",
            "baselines": "without synthetic images against real images alone",
        },
    )


def _axis(values: Sequence[float]) -> tuple[float, float, list[tuple[float, str]]]:
    """The ends of an axis that holds the values, and its ticks as places in percent and texts."""
    low, high = min(values), max(values)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if (high - low) / s <= 6)
    low = math.floor(low / step - 1e-9) * step
    high = math.ceil(high / step + 1e-9) * step
    count = round((high - low) / step)
    ticks = [
        (100 * k / count, f"{low + k * step:.3f}".rstrip("0").rstrip(".")) for k in range(count + 1)
    ]
    return low, high, ticks


def arms_plot(document: Mapping[str, Any], budget: Mapping[str, Any]) -> dict[str, Any]:
    """All arms with interval and n; places in percent of the plot's width."""
    figures = {arm["name"]: arm["figures"]["auroc"] for arm in budget["arms"]}
    known = [
        v for f in figures.values() for v in (f["value"], f["low"], f["high"]) if v is not None
    ]
    low, high, ticks = _axis(known or [0, 1])

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    tested = {
        c["second"]: c
        for c in document["comparisons"]
        if c["budget"] == budget["name"] and c["score"] == "auroc" and c["family"] != "worth"
    }
    rows = []
    for arm in budget["arms"]:
        figure = figures[arm["name"]]
        rows.append(
            {
                "name": arm["name"],
                "x": place(figure["value"]),
                "low": place(figure["low"]),
                "high": place(figure["high"]),
                "figure": figure,
                "synthetic": arm["kind"] not in WITHOUT,
                "images": f"{arm['real_images']:,} real + {arm['synthetic_images']:,} synthetic",
                "note": arm["note"],
                "test": tested.get(arm["name"]),
                "chosen": arm["name"] in (budget["best"], budget["baseline"]),
            }
        )
    guide = place(figures["real"]["value"])
    return {
        "budget": budget["name"],
        "rows": rows,
        "ticks": ticks,
        "guide": guide,
        "left_out": budget["left_out"],
    }


def learning_curves(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """AUROC over the amount of real images: real alone, and the arms with both; None for one amount.

    An arm that was left out as another one again has that one's points.
    """
    if len(document["budgets"]) < 2:
        return None
    arms = [arm for budget in document["budgets"] for arm in budget["arms"]]
    wanted = ["real", *(arm["name"] for arm in arms if arm["kind"] in ("mixed", "pretrained"))]
    series: dict[str, list[dict[str, Any]]] = {name: [] for name in dict.fromkeys(wanted)}
    for budget in document["budgets"]:
        own = {arm["name"]: arm for arm in budget["arms"]}
        twins = {one["arm"]: own[one["same_as"]] for one in budget["left_out"]}
        for name, points in series.items():
            arm = own.get(name) or twins.get(name)
            if arm and arm["figures"]["auroc"]["value"] is not None:
                points.append(arm["figures"]["auroc"] | {"n": arm["real_images"]})
    points = [p for each in series.values() for p in each]
    values = [p[k] for p in points for k in ("value", "low", "high") if p[k] is not None]
    low, high, ticks = _axis(values or [0, 1])
    counts = sorted({p["n"] for p in points})
    first, last = math.log(counts[0]), math.log(max(counts[-1], counts[0] + 1))

    def drawn(point: Mapping[str, Any], number: int) -> dict[str, Any]:
        def up(value: float | None) -> float | None:
            return None if value is None else round(100 * (1 - (value - low) / (high - low)), 2)

        # side by side, so that intervals do not hide each other
        x = 4 + 90 * (math.log(point["n"]) - first) / (last - first) + 0.8 * number
        return {"x": round(x, 2), "y": up(point["value"]), "low": up(point["low"]),
                "high": up(point["high"]), "title": f"{point['n']:,} real: {point['value']:.3f}"}  # fmt: skip

    marks = [(round(4 + 90 * (math.log(n) - first) / (last - first), 2), f"{n:,}") for n in counts]
    return {
        "series": [
            (name, [drawn(p, k) for p in sorted(each, key=lambda p: p["n"])])
            for k, (name, each) in enumerate(series.items())
        ],
        "ticks": [(round(100 - at, 2), text) for at, text in ticks],
        "counts": marks,
    }


def _by_class(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """AUROC and AUPR of each class: real images alone, the best baseline and the best with both."""
    name = document["verdict"]["budget"]
    last = next(budget for budget in document["budgets"] if budget["name"] == name)
    arms = {arm["name"]: arm for arm in last["arms"]}
    names = list(dict.fromkeys(["real", last["baseline"], last["best"]]))
    test = document["task"]["images"]["test"]
    return [
        {"name": of, "n": test[of], "arms": [(name, arms[name]["classes"][of]) for name in names]}
        for of in arms["real"]["classes"]
    ]


def _samples(pool: Pool, folds: Sequence[Fold], count: int) -> list[dict[str, Any]]:
    """Real training beside synthetic images of each class, chosen by a seed; none for 0."""
    rng = np.random.default_rng(0)
    sides = {"real": folds[0].train, "synthetic": folds[0].synthetic}
    found = []
    for column, name in enumerate(pool.classes[:MOST_CLASSES] if count else ()):
        strips = []
        for side, rows in sides.items():
            own = rows[pool.targets[rows, column] > 0]
            some = rng.permutation(own)[:count].tolist()
            strips.append({"side": side, "n": len(own), "images": [_uri(pool, k) for k in some]})
        found.append({"name": name, "strips": strips})
    return found


def _uri(pool: Pool, row: int) -> str:
    try:
        return data_uri(open_rgb(pool.encoded(row)), THUMB_SIDE)
    except (VesaliusError, OSError):
        return ""
