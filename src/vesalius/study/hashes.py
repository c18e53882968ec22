"""Hashes by which a change of a study is found."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from vesalius.core.manifest import file_sha256
from vesalius.errors import VesaliusError
from vesalius.study.database import Item, Trial
from vesalius.study.layout import Layout


def image_hashes(layout: Layout) -> dict[str, str]:
    """SHA-256 of every image by its name. Raises VesaliusError where there is none."""
    found = {path.stem: file_sha256(path) for path in sorted(layout.images.glob("*.png"))}
    if not found:
        raise VesaliusError(f"{layout.images} has no images: build the study again")
    return found


def digest(content: Any) -> str:
    """SHA-256 of what JSON can hold, however it is ordered."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def trials_digest(items: Iterable[Item], trials: Iterable[Trial]) -> str:
    """Of what readers are shown: all but the random tokens."""
    shown = [
        [t.id, t.reader, t.position, t.task, t.phase, list(t.items), t.feedback] for t in trials
    ]
    images = [[i.id, i.png_sha256, i.prompt] for i in items]
    return digest([sorted(images), sorted(shown)])


def built_digest(layout: Layout, images: Mapping[str, str]) -> str:
    """Of all that `check` looks at: images, key and trials."""
    keys = [file_sha256(path) for path in (layout.key, layout.key_trials)]
    return digest([dict(images), keys])
