"""What the generator of a set has learned from, and who says so.

The set's about.json holds a SHA-256 over the hashes of the training images, one of the model and one
of each adapter. A list of images (`training_rows.json` of a run, or a pairs table's training rows)
that gives the same SHA-256 is proof; a list that a user hands over for a generator that tells nothing
is taken as stated; without either nothing is known.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vesalius.errors import VesaliusError
from vesalius.models.locate import bundled_models
from vesalius.pairs.table import read_pairs

ROWS_FILE = "training_rows.json"
State = Literal["proven", "stated", "unknown"]


@dataclass(frozen=True)
class Rows:
    """Some images, by what stands for them."""

    name: str
    keys: frozenset[str]  # SHA-1 of the files
    groups: frozenset[str]
    digest: str  # SHA-256 over the hashes, as a run writes it

    @classmethod
    def of(cls, name: str, keys: Sequence[str], groups: Sequence[str | None]) -> "Rows":
        """Of rows in any order; an image that is there twice counts twice in the digest."""
        digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
        return cls(name, frozenset(keys), frozenset(g for g in groups if g), digest)


@dataclass(frozen=True)
class Part:
    """A model or an adapter, and what it has seen."""

    name: str
    state: State
    rows: Rows | None


def read_rows(path: Path | str) -> Rows:
    """A run's folder or its training_rows.json, or the training rows of a pairs table.

    Raises VesaliusError where it is neither.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        pairs = read_pairs(path)
        train = pairs.rows("train")
        keys, groups = ([pairs.column(name)[k] for k in train] for name in ("sha1", "group"))
        return Rows.of(path.name, keys, groups)
    places = (path, path / ROWS_FILE, path.absolute().parent / ROWS_FILE)
    file = next((place for place in places if place.is_file() and place.suffix == ".json"), None)
    if file is None:
        raise VesaliusError(f"{path} is no run with a {ROWS_FILE}, and no pairs table")
    try:
        rows = json.loads(file.read_text("utf-8"))
        return Rows.of(str(path), [row["sha1"] for row in rows], [row.get("group") for row in rows])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VesaliusError(f"{file} is no {ROWS_FILE} of a run") from error


def of_bundled_models() -> list[Rows]:
    """What the models that come with this package have seen."""
    folders = bundled_models().values()
    return [read_rows(folder) for folder in folders if (folder / ROWS_FILE).is_file()]


def parts_of(about: dict[str, Any], given: Sequence[Rows], known: Sequence[Rows]) -> list[Part]:
    """The model and the adapters of a set, each with what it has seen.

    `given` are lists that the user hands over; `known` are others that a digest may be of, such as
    the real table's training rows.
    """
    told = about.get("training_rows") or {}
    digests = [("the model", told.get("model"))]
    names = about.get("adapters") or []
    for number, digest in enumerate(told.get("adapters") or []):
        digests.append(
            (f"the adapter {names[number]}" if number < len(names) else "an adapter", digest)
        )
    by_digest = {rows.digest: rows for rows in (*known, *given)}
    matched = [by_digest.get(digest) if digest else None for _, digest in digests]
    left = [rows for rows in given if rows.digest not in {m.digest for m in matched if m}]
    parts = []
    for (name, digest), rows in zip(digests, matched, strict=True):
        if rows:
            parts.append(Part(name, "proven", rows))
        elif digest is None and left:  # nobody tells, but for the user
            parts.append(Part(name, "stated", left.pop(0)))
        else:
            parts.append(Part(name, "unknown", None))
    return parts
