"""One page about the whole way: what came of it first, then what it rests on, cost, and how to repeat it."""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vesalius.augment.choose import Choice
from vesalius.augment.record import REPORT, Record
from vesalius.augment.steps import EVIDENCE, PAIRS, RUN, SET, STEPS, UTILITY
from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.documents import read_json, write_page
from vesalius.core.manifest import read_manifest
from vesalius.pairs.table import read_pairs
from vesalius.report.augment import augment_page
from vesalius.report.pictures import ClassPictures, Source, draw_pictures
from vesalius.report.readers import shown

CALLED = {
    "none": "none",
    "textual-inversion": "textual inversion",
    "lora": "LoRA",
    "full": "training all weights",
}
LINKS = {"evidence": f"{EVIDENCE}/report.html", "utility": f"{UTILITY}/report.html"}
_NEEDED_BYTES = 20_000_000


def write_report(record: Record, out: Path, *, samples: int) -> None:
    """Write `out`/report.html from what the steps have left, and put the verdict into `record`."""
    answer = read_json(out / UTILITY / "results.json")
    evidence = read_json(out / EVIDENCE / "metrics.json")
    method = record.chosen.choice.method
    record.verdict = answer["verdict"]
    record.results["synthetic"] = read_json(out / SET / "about.json")["counts"]
    record.results["held_out_loss"] = held_out_loss(out, method)
    readers = shown(record.results.get("readers"), out / REPORT)
    page = augment_page(
        record.as_dict() | {"readers": readers},
        answer,
        evidence,
        meaning=meaning(answer["verdict"]),
        method=CALLED[method],
        steps={step.name: step.title for step in STEPS},
        links=LINKS,
        training_seed=training_seed(record.chosen.choice),
        samples=_samples(out, samples),
    )
    with clear_write_errors(out, _NEEDED_BYTES), atomic_path(out / REPORT) as temporary:
        write_page(temporary, page)


def made_files(out: Path) -> set[str]:
    """The SHA-1 of each image of the synthetic set."""
    rows = read_manifest(out / SET / "manifest.jsonl")
    files = [out / SET / row["file"] for row in rows if row["file"]]
    return {hashlib.sha1(path.read_bytes()).hexdigest() for path in files}


def meaning(verdict: Mapping[str, Any]) -> str:
    """What the answer lets one conclude, and what it does not."""
    meanings = {
        "helped": "That holds for this classifier, these images and this test set: another "
        "laboratory's images may behave otherwise.",
        "no more than a baseline": f"{verdict['baseline']!r} needs no synthetic image, costs "
        "nothing and was not shown to be worse: prefer it.",
        "not shown": "That is no proof that they do nothing: the interval says which gains and losses "
        "remain possible, and it narrows with more test patients.",
        "harmed": "Train without them.",
    }
    return meanings.get(verdict["answer"], "")


def training_seed(choice: Choice) -> int | None:
    """The seed that the generator was trained with, which a value of the recipe may set."""
    return None if choice.method == "none" else choice.recipe().optimisation.seed


def held_out_loss(out: Path, method: str) -> dict[str, float] | None:
    """The denoising loss of held-out images at the first and the best validation of a training."""
    log = out / RUN / method / "log.jsonl"
    if not log.is_file():
        return None
    losses = []
    for line in log.read_text("utf-8", errors="replace").splitlines():
        with suppress(
            ValueError, KeyError, TypeError, RecursionError
        ):  # no validation, or cut short
            losses.append(float(json.loads(line)["validation"]["loss"]))
    if not losses or not all(map(math.isfinite, losses)):
        return None
    return {"first": losses[0], "best": min(losses)}


def _samples(out: Path, count: int) -> list[ClassPictures]:
    """Real training beside synthetic images of each class."""
    pairs, made = read_pairs(out / PAIRS), read_manifest(out / SET / "manifest.jsonl")
    labels = pairs.column("label")
    train = pairs.rows("train")

    def real(name: str) -> list[int]:
        return [row for row in train if labels[row] == name]

    def synthetic(name: str) -> list[str]:
        return [row["file"] for row in made if row["file"] and row.get("label") == name]

    sources = [
        Source("real", real, pairs.encoded),
        Source("synthetic", synthetic, lambda file: (out / SET / file).read_bytes(), 0),
    ]
    return draw_pictures(sorted(set(labels)), sources, count, seed=0)
