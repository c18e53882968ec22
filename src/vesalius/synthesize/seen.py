"""Which adapters a generator has, and what it has seen: a later test must hold other images."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.core.manifest import file_sha256
from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import adapter_file
from vesalius.models.adapters import parse_adapter
from vesalius.models.folder import read_json
from vesalius.models.locate import rows_file


def adapter_hashes(adapters: Sequence[str]) -> list[str]:
    """Each as `0123456789abcdef * 0.5`: the start of its file's SHA-256 and its weight."""
    read = [parse_adapter(text) for text in adapters]
    return [f"{file_sha256(adapter_file(path))[:16]} * {weight:g}" for path, weight in read]


def training_rows(model: Path, adapters: Sequence[str]) -> dict[str, Any]:
    """What a model and each adapter have seen: SHA-256 over the hashes of their training images.

    The hash is the one in an adapter's `adapter.json`; None where nobody tells. A run keeps
    `training_rows.json` beside its results.
    """
    files = [adapter_file(parse_adapter(text)[0]) for text in adapters]
    return {"model": _seen_by(model), "adapters": [_seen_by(f.parent) for f in files]}


def _seen_by(folder: Path) -> str | None:
    if (folder / "adapter.json").is_file():
        told = read_json(folder / "adapter.json").get("training_rows_sha256")
        return str(told) if told else None
    path = rows_file(folder)
    if path is None:
        return None
    try:
        hashes = sorted(row["sha1"] for row in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VesaliusError(f"{path} cannot be read: restore or remove it") from error
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
