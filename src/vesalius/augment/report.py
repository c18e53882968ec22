"""One page about the whole way: what came of it first, then what it rests on, cost, and how to repeat it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.augment.steps import DOES, EVIDENCE, PAIRS, REPORT, RUN, SET, STEPS, UTILITY
from vesalius.core.atomic import atomic_path, told_plainly
from vesalius.core.manifest import read_manifest
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.images.sheets import data_uri
from vesalius.models.folder import read_json
from vesalius.pairs.table import read_pairs
from vesalius.report.page import template
from vesalius.utility.report import arms_plot

THUMB_SIDE = 112  # pixels
MOST_CLASSES = 12  # with pictures
CALLED = {
    "none": "none",
    "textual-inversion": "textual inversion",
    "lora": "LoRA",
    "full": "training all weights",
}
_NEEDED_BYTES = 20_000_000
_STATUS = ("unproven", "stated", "note", "holds")


def write_report(record: dict[str, Any], out: Path, *, samples: int) -> None:
    """Write `out`/report.html from what the steps have left, and put the verdict into `record`."""
    answer = read_json(out / UTILITY / "results.json")
    evidence = read_json(out / EVIDENCE / "metrics.json")
    record["verdict"] = answer["verdict"]
    record["synthetic"] = read_json(out / SET / "about.json")["counts"]
    record["held_out_loss"] = held_out_loss(out, record["choice"]["method"])
    page = render(record, answer, evidence, _samples(out, samples))
    with told_plainly(out, _NEEDED_BYTES), atomic_path(out / REPORT) as temporary:
        temporary.write_text(page, "utf-8", errors="backslashreplace")


def render(
    record: Mapping[str, Any],
    answer: Mapping[str, Any],
    evidence: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page, from augment.json, the results of utility and the metrics of evaluate."""
    return template("augment", {"duration": duration}).render(
        r=record,
        u=answer,
        meaning=meaning(answer["verdict"]),
        checks=warnings(record, answer),
        unfair=[f["message"] for f in evidence["findings"] if f["severity"] == "unfair"],
        said=next(iter(evidence["summary"].values())),
        plots=[arms_plot(answer, budget) for budget in reversed(answer["budgets"])],
        samples=samples,
        steps=STEPS,
        does=DOES,
        called=CALLED[record["choice"]["method"]],
        seconds=sum(each["seconds"] for each in record["steps"].values()),
        stopped=any(each["starts"] > 1 for each in record["steps"].values()),
        links={"evidence": f"{EVIDENCE}/report.html", "utility": f"{UTILITY}/report.html"},
    )


def meaning(verdict: Mapping[str, Any]) -> str:
    """What the answer lets one conclude, and what it does not."""
    told = {
        "helped": "That holds for this classifier, these images and this test set: another "
        "laboratory's images may behave otherwise.",
        "no more than a baseline": f"Without any synthetic image, {verdict['baseline']!r} did about "
        "as well, and costs nothing: prefer it.",
        "not shown": "That is no proof that they do nothing: the interval says which gains and losses "
        "remain possible, and it narrows with more test patients.",
        "harmed": "Train without them.",
    }
    return told.get(verdict["answer"], "")


def warnings(record: Mapping[str, Any], answer: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was checked of the answer, worst first: status and message.

    What the base model has seen was looked at before training, and counts here: the finished
    generator's own record names the images of its last training only.
    """
    found = [(check["status"], check["message"]) for check in record["checks"]]
    found += [
        (check["status"], check["message"])
        for check in answer["honesty"]
        if check["what"] == "classifier"
    ]
    found += [("note", note) for note in [*record["division"]["notes"], *answer["notes"]]]
    ordered = sorted(dict.fromkeys(found), key=lambda one: _STATUS.index(one[0]))
    return [{"status": status, "message": message} for status, message in ordered]


def held_out_loss(out: Path, method: str) -> dict[str, float] | None:
    """The denoising loss of held-out images at the first and the best validation of a training."""
    log = out / RUN / method / "log.jsonl"
    if not log.is_file():
        return None
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]
    losses = [event["validation"]["loss"] for event in events if "validation" in event]
    if not losses or not all(map(math.isfinite, losses)):
        return None
    return {"first": losses[0], "best": min(losses)}


def _samples(out: Path, count: int) -> list[dict[str, Any]]:
    """Real training beside synthetic images of each class, chosen by a seed; none for 0."""
    if not count:
        return []
    pairs, rng = read_pairs(out / PAIRS), np.random.default_rng(0)
    labels, made = pairs.column("label"), read_manifest(out / SET / "manifest.jsonl")
    made = [row for row in made if row["file"]]
    shown = []
    for name in list(dict.fromkeys(sorted(labels)))[:MOST_CLASSES]:
        real = [row for row in pairs.rows("train") if labels[row] == name]
        synthetic = [row["file"] for row in made if row.get("label") == name]
        strips = []
        for side, of in (("real", real), ("synthetic", synthetic)):
            some = [of[k] for k in rng.permutation(len(of))[:count]]
            images = [
                _uri(pairs.encoded(one) if side == "real" else (out / SET / one).read_bytes())
                for one in some
            ]
            strips.append({"side": side, "n": len(of), "images": images})
        shown.append({"name": name, "strips": strips})
    return shown


def _uri(encoded: bytes) -> str:
    try:
        return data_uri(open_rgb(encoded), THUMB_SIDE)
    except (VesaliusError, OSError):
        return ""


def duration(seconds: float) -> str:
    """As in `3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
