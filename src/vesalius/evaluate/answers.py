"""The first thing that a reader sees: a few questions, each with its answer in one line."""

from collections.abc import Mapping, Sequence
from typing import Any

from vesalius.evaluate.comparison import HELD_OUT
from vesalius.evaluate.summary import P as LEVEL
from vesalius.evaluate.summary import reference_of, sentences
from vesalius.statistics.record import POOLED, pick

Figures = Sequence[Mapping[str, Any]]

_WORST = ("bad", "unknown", "good")
_QUESTIONS = {
    "fidelity": "Do they look like real images?",
    "diversity": "Do they differ from each other?",
    "labels": "Do they show what was asked for?",
    "copies": "Are they copies of training images?",
    "memorising": "Are they nearer to training images than to new ones?",
    "membership": "Can training images be told from the model?",
}


def at_a_glance(document: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """Question, answer and kind (good, bad, unknown) for each part of a set that was measured."""
    figures = [*document["sets"][name]["figures"], *document["model"]["figures"]]
    answers = {
        "fidelity": _fidelity(figures, reference_of(document)),
        "diversity": _diversity(figures),
        "labels": _labels(figures),
        "copies": _copies(figures),
        "memorising": _memorising(figures),
        "membership": _membership(figures),
    }
    said = sentences(document, name)
    shown = []
    for part, question in _QUESTIONS.items():
        kinds = {kind for kind, _ in said[part]}
        if answers[part] and kinds:
            kind = next(each for each in _WORST if each in kinds)
            if part == "labels" and (by := document["settings"].get("by", "label")) != "label":
                question = f"Do they show the {by} that was asked for?"  # not the finding
            shown.append({"question": question, "answer": answers[part], "kind": kind})
    return shown


def _fidelity(figures: Figures, reference: str) -> str:
    ratios = [
        f["at_floor_n"] / f["floor"]
        for f in pick(figures, metric="fid", of=POOLED, reference=reference)
        if f["at_floor_n"] is not None and f["floor"]
    ]
    if not ratios:
        return ""
    new = "images the model never saw" if reference == HELD_OUT else "real images"
    return f"{_range(ratios)} times as far from {new} as other real images are (FID)"


def _range(values: Sequence[float]) -> str:
    told = [f"{value:.1f}" for value in (min(values), max(values))]
    return told[0] if told[0] == told[1] else " to ".join(told)


def _diversity(figures: Figures) -> str:
    pooled = [
        f
        for metric in ("ms_ssim", "lpips", "vendi")
        for f in pick(figures, part="diversity", metric=metric, of=POOLED)
        if f["value"] is not None and f["floor"] is not None
    ]
    less = sum(bool(f["note"]) for f in pooled if f["low"] is not None)
    if not pooled:
        return ""
    if not less:
        return "about as much as real images of a class do"
    return f"less than real images of a class do, by {less} of {len(pooled)} measures"


def _labels(figures: Figures) -> str:
    found = {
        reference: next(
            (f["value"] for f in pick(figures, metric="mean auroc", reference=reference)), None
        )
        for reference in ("synthetic", HELD_OUT)
    }
    if None in found.values():
        return ""
    return f"AUROC {found['synthetic']:.2f}, in real images {found[HELD_OUT]:.2f}; 0.5 is chance"


def _copies(figures: Figures) -> str:
    counts = [
        (round(f["value"] * f["n"]), f["n"])
        for f in pick(figures, metric="copies")
        if f["value"] is not None and f["extractor"] in ("structure", "tiles")
    ]
    if not counts:
        return ""
    most, n = max(counts)
    return f"{most} of {n} are nearer to one than the limit, as are 1 % of new real images"


def _memorising(figures: Figures) -> str:
    p = [
        f["details"]["p"]
        for metric in ("distance ratio", "memorised tail")
        for f in pick(figures, metric=metric)
        if "p" in f["details"]
    ]
    if not p:
        return ""
    found = "yes" if min(p) <= LEVEL / len(p) else "nothing found"
    return f"{found}: the lowest p of {len(p)} tests is {min(p):.3f}"


def _membership(figures: Figures) -> str:
    for figure in pick(figures, part="membership", metric="auroc"):
        if figure["value"] is not None:
            return f"AUROC {figure['value']:.2f}; 0.5 is guessing"
    return ""
