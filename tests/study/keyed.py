"""A small study with a key, locked as `vesalius study lock` does it: pictures of noise, known arms."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from benchmarks.study.drawn import TASKS
from PIL import Image

from vesalius.study.hashes import built_digest, image_hashes
from vesalius.study.key import KeyItem, KeyTrial, write_key
from vesalius.study.layout import Layout
from vesalius.study.lock import lock
from vesalius.study.protocol import Protocol, write_protocol
from vesalius.study.settings import LockSettings

LABELS = TASKS["diagnosis"]["labels"]


def keyed_study(
    folder: Path, *, tasks=("turing",), readers=3, trials=12, despite: str | None = None
) -> Path:
    """`trials` scored ones of each reader and task, a repeat, two fakes (of turing) and a training case."""
    layout, rng = Layout(folder), np.random.default_rng(0)
    layout.images.mkdir(parents=True)
    values = {
        "title": "Small", "question": "Which are which?",
        "readers": [{"name": f"R{k + 1}"} for k in range(readers)],
        "tasks": [{"task": name, "trials": trials, **TASKS[name]} for name in tasks],
        "pixels": {"width": 16, "height": 16}, "consent": "Yes.",
    }  # fmt: skip
    protocol = Protocol.model_validate(values)
    write_protocol(layout.protocol, protocol)
    items: list[KeyItem] = []

    def item(arm: str, label: str) -> str:
        stream = io.BytesIO()
        noise = rng.integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(noise).save(stream, "PNG", compress_level=0)
        name, data = rng.bytes(16).hex(), stream.getvalue()
        layout.image(name).write_bytes(data)
        own = "made" if arm == "synthetic" else ""
        sha1 = hashlib.sha1(data).hexdigest()
        prompt = f"chest x-ray with {label}"
        items.append(KeyItem(name, arm, own, "", sha1, "", label, prompt, "{}", ""))
        return name

    cases = {task: [_case(task, k, item) for k in range(trials)] for task in tasks}
    fakes = [_case("turing", "fake", item) for _ in range(2)] if "turing" in tasks else []
    rows: list[KeyTrial] = []
    for reader in (entry.name for entry in protocol.readers):
        position = 0
        for task in tasks:
            shown = [("training", cases[task][0]), *(("scored", case) for case in cases[task])]
            shown += [("fake", case) for case in (fakes if task == "turing" else [])]
            first = len(rows) + 2
            for kind, (names, truth) in [*shown, ("repeat", cases[task][0])]:
                phase = "training" if kind == "training" else "reading"
                of = first if kind == "repeat" else None
                rows.append(KeyTrial(len(rows) + 1, reader, position, task, phase, kind, of, names, truth))  # type: ignore[arg-type]  # fmt: skip
                position += 1
    write_key(layout.key, items, KeyItem)
    write_key(layout.key_trials, rows, KeyTrial)
    built = {
        "design": json.loads(json.dumps(protocol.design())),
        "excluded": {"real": {"no label": 3}}, "warnings": [], "splits": ["test"], "real": "r",
        "synthetic": {"made": "s"}, "images": {}, "sources": [], "where": {}, "label": "label",
        "match": [], "crop_borders": False, "reconstruct": None, "reuse": True,
    }  # fmt: skip
    layout.build.write_text(json.dumps(built))
    reasons = ["synthetic can be told by its size"] if despite else []
    digest = built_digest(layout, image_hashes(layout))
    layout.check.write_text(json.dumps({"images": digest, "reasons": reasons, "arms": []}))
    lock(folder, LockSettings(despite=despite))
    return folder


def _case(task, k, item):
    """Names of the images, and the right answer."""
    if k == "fake":
        return item("fake", LABELS[0]), "synthetic"
    arm, label = ("real", "synthetic")[k % 2], LABELS[k // 2 % 2]
    if task == "pair":
        names = item("real", label), item("synthetic", label)
        return ",".join(names if k % 2 else names[::-1]), "left" if k % 2 else "right"
    truth = {"turing": arm, "diagnosis": label}.get(task, "")
    return item(arm, label), truth
