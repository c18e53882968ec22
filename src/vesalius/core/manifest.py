"""Manifests: JSON Lines, one row an image, beside the images that they describe."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vesalius.errors import VesaliusError


def write_manifest(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, keys in the given order."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_manifest(path: Path | str) -> list[dict[str, Any]]:
    """All rows of a manifest. Raises VesaliusError naming the line that is not a JSON object."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VesaliusError(f"{path} cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise VesaliusError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise VesaliusError(f"{path}, line {number} is not a JSON object")
        rows.append(row)
    return rows


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
