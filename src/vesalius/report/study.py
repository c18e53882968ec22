"""The page of a reader study, from results.json: what was shown first, then figures by reader and group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vesalius.report.page import Remark, render, urgent_first
from vesalius.report.plots import REAL, Plot, Series, interval_plot
from vesalius.statistics.figure import POOLED, pick

Document = Mapping[str, Any]  # results.json
Rows = Sequence[Mapping[str, Any]]  # of its figures

TASKS = {
    "turing": "Real or synthetic?",
    "pair": "Two side by side",
    "quality": "Quality",
    "alignment": "Agreement with the prompt",
    "diagnosis": "Diagnosis",
}
ABOUT = {  # of metrics, for the tables
    "accuracy": "share of right answers",
    "called synthetic": "share of pictures called synthetic",
    "auc": "AUC from the six levels of confidence",
    "d'": "d', how far apart the arms look",
    "criterion": "criterion c, above 0 for a lean towards real",
    "fooling rate": "share of synthetic pictures taken for real",
    "drift": "second half less first half",
    "worth": "worth by Davidson's model, of a sum of 1",
    "nu": "ties, by Davidson's model",
    "median seconds": "median seconds to an answer",
}
_GROUPS = ("reader", "specialty", "years", "label")
_KAPPA = ("kappa", "alpha", "AC1")


@dataclass(frozen=True)
class Drawn:
    """A forest plot: which metrics, on which axis."""

    title: str
    about: str
    metrics: tuple[str, ...]
    span: tuple[float, float] | None = None
    guide: float | None = None
    margin: bool = False  # whether the locked margin is shaded around the guide
    lower_only: bool = False  # whether everything above the margin's lower end is


_PLOTS: Mapping[str, tuple[Drawn, ...]] = {
    "turing": (
        Drawn("Accuracy", "mean of both arms; 0.5 is guessing; shaded: the locked margin",
              ("accuracy",), (0, 1), 0.5, margin=True),
        Drawn("AUC", "from the six levels of confidence; 0.5 is guessing", ("auc",), (0, 1), 0.5),
        Drawn("d'", "how far apart the arms look, whichever way a reader leans; 0 is guessing",
              ("d'",), guide=0),
        Drawn("Criterion c", "above 0 a lean towards real, below 0 towards synthetic",
              ("criterion",), guide=0),
        Drawn("Sensitivity and specificity",
              "synthetic pictures called synthetic (colour), real ones called real (grey)",
              ("sensitivity", "specificity"), (0, 1)),
    ),
    "pair": (
        Drawn("Real one chosen", "share of pairs, a tie as a half; shaded: the locked margin",
              ("real chosen",), (0, 1), 0.5, margin=True),
        Drawn("d' of two side by side", "0 is guessing", ("d' (2AFC)",), guide=0),
        Drawn("Worth", "of each arm, by wins and ties (Davidson); of a sum of 1", ("worth",), (0, 1)),
        Drawn("Left one chosen", "0.5 where the side does not matter",
              ("left chosen", "left chosen, both real"), (0, 1), 0.5),
    ),
    "quality": (
        Drawn("Mean rating", "from 1 to 5", ("mean rating",), (1, 5)),
        Drawn("Synthetic less real", "points; shaded: not lower than the locked margin allows",
              ("difference",), guide=0, margin=True, lower_only=True),
    ),
    "diagnosis": (
        Drawn("Right diagnoses", "share; of synthetic images, of the label they were made for",
              ("accuracy",), (0, 1)),
        Drawn("Synthetic less real", "shaded: not lower than the locked margin allows",
              ("difference",), guide=0, margin=True, lower_only=True),
    ),
}  # fmt: skip
_PLOTS = {**_PLOTS, "alignment": _PLOTS["quality"]}
POINTS = 4  # between the ends of a rating


@dataclass(frozen=True)
class Section:
    """One task and phase of the page."""

    task: str
    phase: str
    title: str
    question: str
    remarks: list[Remark]
    arms: list[tuple[str, int]]  # with their series, for the legend
    plots: list[Plot]
    by_reader: list[dict[str, Any]]
    agreement: Rows
    tables: Rows
    figures: Rows


def study_page(document: Document) -> str:
    """The page of results.json."""
    said = [Remark(s["status"], s["message"]) for s in document["sentences"] if not s["task"]]
    sections = [_section(document, *key) for key in _keys(document)]
    return render(
        "study",
        d=document,
        what=document["what"],
        first=[remark for remark in urgent_first(said) if remark.status != "note"],
        notes=[remark for remark in said if remark.status == "note"],
        sections=sections,
        about=ABOUT,
        tasks=TASKS,
        facts=_facts(document),
    )


def _keys(document: Document) -> list[tuple[str, str]]:
    return list(dict.fromkeys((f["task"], f["phase"]) for f in document["figures"]))


def _facts(document: Document) -> list[tuple[str, Any]]:
    readers = document["readers"]
    answers = sum(each["answered"] for each in readers)
    trials = sum(each["trials"] for each in readers)
    images = document["what"].get("images", {})
    shown = ", ".join(f"{count:,} {arm}" for arm, count in images.items())
    return [
        (
            "readers",
            f"{sum(r['finished_at'] is not None for r in readers)} of {len(readers)} ended",
        ),
        ("answers", f"{answers:,} of {trials:,}"),
        ("images", shown or None),
    ]


def _section(document: Document, task: str, phase: str) -> Section:
    rows = pick(document["figures"], task=task, phase=phase)
    given = next(each for each in document["what"]["tasks"] if each["task"] == task)
    said = [s for s in document["sentences"] if (s["task"], s["phase"]) == (task, phase)]
    shown = {
        f["arm"]: None for f in rows if f["arm"] not in ("fake", POOLED) and f["reader"] == POOLED
    }
    series = {arm: _series(arm, list(shown)) for arm in shown}
    phases = {key[1] for key in _keys(document) if key[0] == task}
    later = "" if len(phases) < 2 else ", before synthetic images were named" if phase == "unaware" else ", after they were named"  # fmt: skip
    return Section(
        task,
        phase,
        TASKS[task] + later,
        given["question"],
        sorted((Remark(s["status"], s["message"]) for s in said), key=_verdicts_first),
        [(arm, number) for arm, number in series.items()],
        _plots(rows, task, series, given["margin"]),
        _by_reader(rows),
        [f for f in rows if any(word in f["metric"] for word in _KAPPA)],
        [t for t in document["tables"] if (t["task"], t["phase"]) == (task, phase)],
        rows,
    )


def _verdicts_first(remark: Remark) -> int:
    return ("holds", "unproven").index(remark.status) if remark.status in ("holds", "unproven") else 2 + (remark.status == "note")  # fmt: skip


def _series(arm: str, arms: Sequence[str]) -> int:
    return REAL if arm == "real" else [a for a in arms if a != "real"].index(arm)


def _plots(rows: Rows, task: str, series: Mapping[str, int], margin: float) -> list[Plot]:
    made = []
    reach = margin * (POINTS if task in ("quality", "alignment") else 1)
    for drawn in _PLOTS[task]:
        lines: dict[str, list[Series]] = {}
        for row in rows:
            if row["metric"] not in drawn.metrics or row["arm"] == "fake":
                continue
            name = _name_of(row) if drawn.title != "Worth" else row["arm"]
            is_real = row["arm"] == "real" or row["metric"] == "specificity"
            number = REAL if is_real else series.get(row["arm"], 0)
            title = f"{row['metric']}, {row['arm']}" if row["arm"] != POOLED else row["metric"]
            figure = {**row, "floor": None, "floor_n": 0, "at_floor_n": None}
            lines.setdefault(name, []).append(Series(figure, number, title))
        plot = interval_plot(
            drawn.title,
            drawn.about,
            list(lines.items()),
            span=drawn.span,
            guide=drawn.guide,
            band=_band(drawn, reach, [one.figure for line in lines.values() for one in line]),
        )
        made += [plot] if plot else []
    return made


def _band(drawn: Drawn, reach: float, figures: Rows) -> tuple[float, float] | None:
    """The margin around the guide; of what must only not be lower, up to the end of the axis."""
    if not drawn.margin or drawn.guide is None:
        return None
    highs = [f["high"] for f in figures if f["high"] is not None] if drawn.lower_only else []
    return drawn.guide - reach, max([drawn.guide + reach, *highs])


def _name_of(row: Mapping[str, Any]) -> str:
    """Of whom, or of what label, the figure is."""
    return next((f"label {row[k]}" if k == "label" else row[k] for k in _GROUPS if row[k] != POOLED), POOLED)  # fmt: skip


def _by_reader(rows: Rows) -> list[dict[str, Any]]:
    """What each reader did: answers, time, repeats, drift, fakes."""
    names = {
        "median seconds": "seconds",
        "repeat agreement": "repeats",
        "drift": "drift",
        "fakes caught": "fakes",
    }
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["metric"] in names and {row["specialty"], row["years"], row["label"]} == {POOLED}:
            one = found.setdefault(row["reader"], dict.fromkeys(names.values()) | {"answers": 0})
            one[names[row["metric"]]] = row
            if row["metric"] == "median seconds":
                one["answers"] = row["n"]
    return [{"reader": reader, **one} for reader, one in found.items()]
