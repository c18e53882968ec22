"""A small locked study as `build` and `lock` leave it, of noise and without a key that says anything."""

import hashlib
import io
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from vesalius.study.database import Database, Item, Reader, Trial, create
from vesalius.study.layout import Layout
from vesalius.study.protocol import Protocol, write_protocol

ANCHORS = {1: "useless", 2: "poor", 3: "fair", 4: "good", 5: "like the best I know"}
TASKS = {
    "turing": {"question": "Is this image real or synthetic?"},
    "pair": {"question": "Which of the two images is real?"},
    "quality": {"question": "How good is this image?", "anchors": ANCHORS},
    "alignment": {"question": "Does the text fit the image?", "anchors": ANCHORS},
    "diagnosis": {"question": "What does this image show?", "labels": ("nodule", "effusion")},
}
ALL_TASKS = tuple(TASKS)


@dataclass(frozen=True)
class SmallStudy:
    """How much of everything there is."""

    tasks: tuple[str, ...] = ALL_TASKS
    readers: tuple[str, ...] = ("R1", "R2")
    training: int = 1  # of each task
    trials: int = 3  # scored, of each reader and task
    unaware: int = 0  # trials of quality before synthetic images are named
    side: int = 96  # pixels
    protocol: dict = field(default_factory=dict)


def png(rng, side: int) -> bytes:
    """Smooth noise, so that zoom and window are to be seen; one writer, no compression."""
    coarse = Image.fromarray(rng.integers(20, 235, (8, 8), dtype=np.uint8))
    stream = io.BytesIO()
    coarse.resize((side, side), Image.Resampling.BICUBIC).save(stream, "PNG", compress_level=0)
    return stream.getvalue()


def small_study(folder: Path, small: SmallStudy | None = None) -> Path:
    """Write a locked study into `folder`."""
    small = small or SmallStudy()
    layout = Layout(folder)
    layout.images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    values = {
        "title": "Chest radiographs",
        "question": "How do readers judge these images?",
        "readers": [{"name": name} for name in small.readers],
        "tasks": [
            {"task": name, "trials": 2 * small.trials, **TASKS[name]} for name in small.tasks
        ],
        "training": small.training,
        "unaware_first": bool(small.unaware),
        "pixels": {"width": small.side, "height": small.side},
        "consent": "You will see images and answer questions about them.\n\nYou can stop any time.",
    } | small.protocol
    write_protocol(layout.protocol, Protocol.model_validate(values))
    items, trials = [], []

    def item() -> str:
        name = secrets.token_hex(16)
        data = png(rng, small.side)
        layout.image(name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        items.append(Item(name, digest, small.side, small.side, "chest x-ray with a nodule"))
        return name

    def add(reader: str, task: str, phase: str, feedback: str = "") -> None:
        names = tuple(item() for _ in range(2 if task == "pair" else 1))
        position = sum(trial.reader == reader for trial in trials)
        token = secrets.token_hex(16)
        trials.append(Trial(len(trials) + 1, reader, position, task, phase, names, token, feedback))

    right = {"turing": "real", "pair": "left", "diagnosis": "nodule"}
    for reader in small.readers:
        for _ in range(small.unaware):
            add(reader, "quality", "unaware")
        for task in small.tasks:
            for _ in range(small.training):
                add(reader, task, "training", right.get(task, ""))
            for _ in range(small.trials):
                add(reader, task, "reading")
    readers = [Reader(name) for name in small.readers]
    create(layout.database, items, trials, readers, {"study": secrets.token_hex(8)})
    layout.lock.write_text(json.dumps({"locked": True}))
    with Database(layout.database) as database:
        database.set_meta("locked", hashlib.sha256(layout.lock.read_bytes()).hexdigest())
    return folder
