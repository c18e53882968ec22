"""A small locked study as `build` and `lock` leave it, of noise.

Images of the two arms are written one after the other, so that dates and rows would tell them apart,
and synthetic ones are brighter; sizes are the same.
"""

import hashlib
import io
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vesalius.core.manifest import file_sha256
from vesalius.study.database import Item, Reader, Trial, create
from vesalius.study.hashes import image_hashes, trials_digest
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
PROMPT = "chest x-ray with a nodule"


@dataclass(frozen=True)
class SmallStudy:
    """How much of everything there is."""

    tasks: tuple[str, ...] = ALL_TASKS
    readers: tuple[str, ...] = ("R1", "R2")
    training: int = 1  # of each task
    trials: int = 3  # scored, of each reader and task
    unaware: int = 0  # trials of quality before synthetic images are named
    side: int = 96  # pixels
    images: int = 0  # distinct ones; 0 is one for each time that one is shown
    protocol: dict = field(default_factory=dict)


def png(rng: np.random.Generator, side: int, brighter: int = 0) -> bytes:
    """Smooth noise, so that zoom and window are to be seen; one writer, no compression."""
    coarse = Image.fromarray(rng.integers(20, 215, (8, 8), dtype=np.uint8) + np.uint8(brighter))
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
    items, trials = [], _trials(small)
    for arm in ("real", "synthetic"):
        for trial in trials:
            for side, name in enumerate(trial.items):
                if arm == _arm(trial, side) and not layout.image(name).exists():
                    data = png(rng, small.side, 20 if arm == "synthetic" else 0)
                    layout.image(name).write_bytes(data)
                    digest = hashlib.sha256(data).hexdigest()
                    items.append(Item(name, digest, small.side, small.side, PROMPT))
    study = secrets.token_hex(8)
    readers = [Reader(name) for name in small.readers]
    arms = [_arm(trial, 0) for trial in trials]
    pq.write_table(pa.table({"trial": [t.id for t in trials], "arm": arms}), layout.key_trials)
    pq.write_table(pa.table({"item": [item.id for item in items]}), layout.key)
    locked = _lock(layout, study, items, trials)
    create(layout.database, items, trials, readers, {"study": study, "locked": locked})
    return folder


def _lock(layout: Layout, study: str, items: list[Item], trials: list[Trial]) -> str:
    """Write the lock; its hash."""
    for path in (layout.build, layout.check):
        path.write_text("{}")
    files = (layout.protocol, layout.build, layout.check, layout.key, layout.key_trials)
    hashes = {path.name: file_sha256(path) for path in files}
    hashes["trials"] = trials_digest(items, trials)
    document = {"study": study, "hashes": hashes, "images": image_hashes(layout)}
    layout.lock.write_text(json.dumps(document))
    return file_sha256(layout.lock)


def _arm(trial: Trial, side: int) -> str:
    drawn = hashlib.blake2s(trial.token.encode()).digest()[0]
    return "real" if (drawn + side) % 2 else "synthetic"


def _trials(small: SmallStudy) -> list[Trial]:
    """Every reader's trials, block after block, in the order of `build`."""
    pool = [secrets.token_hex(16) for _ in range(small.images)]
    right = {"turing": "real", "pair": "left", "diagnosis": "nodule"}
    found: list[Trial] = []
    for reader in small.readers:
        blocks = [("quality", "training", small.training), ("quality", "unaware", small.unaware)]
        blocks = blocks if small.unaware else []
        for task in small.tasks:
            if (task, "training", small.training) not in blocks:
                blocks.append((task, "training", small.training))
            blocks.append((task, "reading", small.trials))
        shown = [(task, phase) for task, phase, number in blocks for _ in range(number)]
        for position, (task, phase) in enumerate(shown):
            names = tuple(
                secrets.choice(pool) if pool else secrets.token_hex(16)
                for _ in range(2 if task == "pair" else 1)
            )
            told = right.get(task, "") if phase == "training" else ""
            token = secrets.token_hex(16)
            number = len(found) + 1
            found.append(Trial(number, reader, position, task, phase, names, token, told))
    return found
