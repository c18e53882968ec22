"""Folders that the server was told to show: synthetic sets, and reports; known by ids."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.documents import read_json
from vesalius.core.paths import expanded
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.images.stored_images import MANIFEST, loads, rows_with_images

_REPORT = "report.html"
_PARTS = ("", "set", "evidence", "utility")  # where `vesalius augment` puts what it makes
_TITLE = re.compile(r"<title>([^<]*)</title>")


@dataclass(frozen=True)
class Shown:
    """A folder with a set, a report, or both."""

    id: str
    name: str
    folder: Path

    @property
    def is_set(self) -> bool:
        """Whether there are images."""
        return (self.folder / MANIFEST).is_file()

    @property
    def report(self) -> Path | None:
        """The page, where there is one."""
        path = self.folder / _REPORT
        return path if path.is_file() else None

    @property
    def title(self) -> str:
        """Of the report."""
        try:
            with (self.folder / _REPORT).open(encoding="utf-8", errors="replace") as file:
                found = _TITLE.search(file.read(20_000))
        except OSError:
            return ""
        return unescape(found[1]) if found else ""

    @property
    def model(self) -> str:
        """Which made the set."""
        try:
            about = read_json(self.folder / "about.json")
        except VesaliusError:
            return ""
        model = about.get("model", "")
        return str(model.get("name", "") if isinstance(model, dict) else model)

    def rows(self) -> list[dict[str, Any]]:
        """The manifest. Raises VesaliusError where it cannot be read."""
        path = self.folder / MANIFEST
        return _rows(self.folder, path.stat().st_mtime_ns) if path.is_file() else []

    def image(self, number: int) -> tuple[np.ndarray, dict[str, Any]]:
        """An image, uint8 (H, W, 3), and its provenance. Raises VesaliusError where there is none."""
        rows = self.rows()
        if number >= len(rows):
            raise VesaliusError(f"the set has {len(rows)} images")
        row = rows[number]
        inside = self.folder / str(row["file"]).partition(":")[0]
        if not inside.resolve().is_relative_to(self.folder.resolve()):
            raise VesaliusError("this image lies outside of its set")
        [load] = loads(self.folder, [row])
        facts = {name: value for name, value in row.items() if name != "file"}
        return np.asarray(open_rgb(load())), facts


@lru_cache(maxsize=8)
def _rows(folder: Path, _changed: int) -> list[dict[str, Any]]:
    return rows_with_images(folder)


def find_shown(paths: Iterable[Path]) -> dict[str, Shown]:
    """What lies in these folders, by id. Raises VesaliusError for one with nothing to show."""
    found: dict[str, Shown] = {}
    for path in paths:
        folder = expanded(path).resolve()
        here = [_one(folder, part) for part in _PARTS]
        here = [one for one in here if one.is_set or one.report]
        if not here:
            raise VesaliusError(f"--show {path}: it has neither {MANIFEST} nor {_REPORT}")
        found |= {one.id: one for one in here}
    return found


def _one(folder: Path, part: str) -> Shown:
    where = folder / part if part else folder
    id = hashlib.sha256(b"shown\0" + str(where).encode()).hexdigest()[:32]
    return Shown(id, f"{folder.name}/{part}" if part else folder.name, where)
