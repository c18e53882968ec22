"""What the way consists of, which parts are done, and the record that it is gone on by.

A step is done when its products are there: each appears whole or not at all. The record,
`augment.json`, holds what was asked and chosen, so that another table, model or setting is noticed.
"""

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, remove, told_plainly
from vesalius.core.documents import write_document
from vesalius.errors import VesaliusError

FORMAT = "vesalius augment 1"
RECORD, REPORT, WORK = "augment.json", "report.html", ".work"
Step = Literal["pairs", "train", "plan", "synthesize", "evaluate", "utility"]
STEPS: tuple[Step, ...] = get_args(Step)
DOES: dict[Step, str] = {
    "pairs": "divide the images",
    "train": "fine-tune the generator",
    "plan": "plan what to generate",
    "synthesize": "generate, with the guard",
    "evaluate": "compare with real images",
    "utility": "train and compare classifiers",
}
PAIRS, RUN, PLAN, SET = "pairs.parquet", "run", "plan.csv", "set"
EVIDENCE, UTILITY, FEATURES = "evidence", "utility", "features"
_WRITTEN = (PAIRS, RUN, PLAN, SET, EVIDENCE, UTILITY, FEATURES, REPORT, RECORD)
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "timm", "numpy", "pillow", "pyarrow")


def products(step: Step, method: str, labels: Mapping[str, str]) -> list[str]:
    """What a step leaves in the folder; `labels` are the folders of one training a label."""
    if step == "train":
        if method == "textual-inversion":
            return [f"{RUN}/{folder}/adapter" for folder in labels.values()]
        return {"none": [], "full": [f"{RUN}/generator"], "lora": [f"{RUN}/adapter"]}[method]
    return {
        "pairs": [PAIRS],
        "plan": [PLAN],
        "synthesize": [f"{SET}/manifest.jsonl"],
        "evaluate": [f"{EVIDENCE}/metrics.json", f"{EVIDENCE}/report.html"],
        "utility": [
            f"{UTILITY}/{name}" for name in ("results.json", "report.html", "predictions.parquet")
        ],
    }[step]


def is_done(out: Path, wanted: list[str]) -> bool:
    """Whether all of it is there."""
    return all((out / name).exists() for name in wanted)


def new_record(
    identity: Mapping[str, Any], chosen: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """The record of a way that begins."""
    return {
        "format": FORMAT,
        "vesalius": __version__,
        "command": command,
        **identity,
        **chosen,
        "versions": versions(),
        "steps": {},
        "verdict": None,
    }


def read_record(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record in `out`, None where nothing was begun.

    Raises VesaliusError where the folder is somebody else's, or was begun with something else.
    """
    path = out / RECORD
    if not path.is_file():
        if out.is_dir() and any(entry.name != WORK for entry in out.iterdir()):
            raise VesaliusError(f"{out} holds other files and no {RECORD}: choose another --out")
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        known = record["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        known, record = False, {}
    if not known:
        raise VesaliusError(f"{path} cannot be read by this version: --restart, or another --out")
    if told := _difference(record, identity):
        raise VesaliusError(
            f"{out} was begun with {told}: choose another --out, or --restart to begin anew"
        )
    return record


def _difference(record: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """What is other than it was, in words; nothing where all is the same."""
    before, now = record["input"], identity["input"]
    if before["sha256"] != now["sha256"]:
        return f"another table ({before['path']}, or that has changed since)"
    if record["model"]["hash"] != identity["model"]["hash"]:
        return f"another model ({record['model']['name']}, or that has changed since)"
    ours, theirs = identity["settings"], record["settings"]
    for name in ours:
        if name != "model" and ours[name] != theirs.get(name):
            return f"{name} {json.dumps(theirs.get(name))}, and now it is {json.dumps(ours[name])}"
    return ""


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write augment.json, whole or not at all."""
    with told_plainly(out, 1_000_000), atomic_path(out / RECORD) as temporary:
        write_document(temporary, record)


def clear(out: Path) -> None:
    """Remove what an earlier way left in `out`, the record last; nothing where there is none.

    Raises VesaliusError where the folder is somebody else's.
    """
    if not any(entry.name != WORK for entry in out.iterdir()):
        return
    if not (out / RECORD).is_file():
        raise VesaliusError(
            f"{out} holds no {RECORD}, so --restart leaves it alone: choose another --out"
        )
    for name in _WRITTEN:
        remove(out / name)


@contextmanager
def timed(out: Path, record: dict[str, Any], step: Step) -> Iterator[None]:
    """Count a step's starts and seconds in the record; a kill loses the seconds of its start."""
    told = record["steps"].setdefault(step, {"starts": 0, "seconds": 0.0})
    told["starts"] += 1
    write_record(out, record)
    began = time.monotonic()
    try:
        yield
    finally:
        told["seconds"] = round(told["seconds"] + time.monotonic() - began, 2)
        write_record(out, record)


def versions() -> dict[str, str]:
    """Of Python and the libraries that decide what comes out."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
