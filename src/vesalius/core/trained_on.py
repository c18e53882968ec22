"""What a model was trained on: one record of the images, and who says so.

A run lists its training images in `training_rows.json` beside its result. An adapter and a synthetic
set carry only a digest, a SHA-256 over the hashes of those images: a list that gives the same digest
is proof; a list that a user hands over for a generator without a digest is taken as stated.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vesalius.core.atomic import atomic_path
from vesalius.core.documents import parse_json
from vesalius.errors import VesaliusError

ROWS_FILE = "training_rows.json"  # in a model's folder, or beside it in a run

State = Literal["proven", "stated", "unknown"]


def digest_of(hashes: Iterable[str]) -> str:
    """SHA-256 over the hashes of images, in whatever order; one that is there twice counts twice."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


@dataclass(frozen=True)
class TrainedOn:
    """Training images, row for row."""

    name: str  # of what says so
    hashes: tuple[str, ...]  # SHA-1 of each image file
    groups: tuple[str | None, ...]  # patient or lesion, where known
    sources: tuple[str | None, ...]

    @classmethod
    def of_rows(
        cls, name: str, column: Callable[[str], Sequence[str | None]], rows: Iterable[int]
    ) -> "TrainedOn":
        """Of some rows of a table, whose columns `column` gives."""
        rows = list(rows)
        columns = [column(each) for each in ("sha1", "group", "source")]
        hashes, groups, sources = (tuple(values[row] for row in rows) for values in columns)
        return cls(name, tuple(sha1 or "" for sha1 in hashes), groups, sources)

    @cached_property
    def images(self) -> frozenset[str]:
        """Their hashes, without order."""
        return frozenset(self.hashes)

    @cached_property
    def people(self) -> frozenset[str]:
        """The groups that are known: patients or lesions."""
        return frozenset(group for group in self.groups if group)

    @cached_property
    def digest(self) -> str:
        """See `digest_of`."""
        return digest_of(self.hashes)

    def includes(self, sha1: str, group: str | None) -> bool:
        """Whether the image, or another one of its group, was trained on."""
        return sha1 in self.images or group in self.people

    def plus(self, other: "TrainedOn") -> "TrainedOn":
        """These images, then those of `other` that are not among them."""
        new = [k for k, sha1 in enumerate(other.hashes) if sha1 not in self.images]
        return TrainedOn(
            self.name,
            (*self.hashes, *(other.hashes[k] for k in new)),
            (*self.groups, *(other.groups[k] for k in new)),
            (*self.sources, *(other.sources[k] for k in new)),
        )

    def write(self, folder: Path) -> None:
        """Write `folder`/training_rows.json.

        It stands beside a result, not in it: groups may be names of patients.
        """
        names = ("sha1", "group", "source")
        columns = (self.hashes, self.groups, self.sources)
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        with atomic_path(folder / ROWS_FILE) as temporary:
            temporary.write_text(json.dumps(rows, indent=0))


def find_rows(path: Path) -> Path | None:
    """The list of training images that `path` is, or that lies in this folder or beside it."""
    if path.suffix == ".json":
        return path
    parents = (path.absolute().parent, path.resolve().parent)
    places = (folder / ROWS_FILE for folder in (path, *parents))
    return next((place for place in places if place.is_file()), None)


def read_rows(path: Path, name: str = "") -> TrainedOn:
    """A training_rows.json. Raises VesaliusError where it is none."""
    try:
        rows = parse_json(path.read_bytes(), path)
        return TrainedOn.of_rows(
            name or str(path),
            lambda key: [row["sha1"] if key == "sha1" else row.get(key) for row in rows],
            range(len(rows)),
        )
    except (VesaliusError, OSError, KeyError, TypeError, AttributeError) as error:
        raise VesaliusError(
            f"{path} is no {ROWS_FILE} of a run: restore it, or give the table in its place"
        ) from error


@dataclass(frozen=True)
class Part:
    """A model or an adapter behind a synthetic set, and what it was trained on."""

    name: str
    state: State
    trained_on: TrainedOn | None
    private: bool = False  # it has a guarantee in the place of a list


def parts_of(
    about: Mapping[str, Any], given: Sequence[TrainedOn], known: Sequence[TrainedOn]
) -> list[Part]:
    """The model and the adapters that a set's about.json names, each with what it was trained on.

    `given` are lists that the user hands over; `known` are others that a digest may be of, such as
    the real table's training rows.
    """
    recorded = about.get("training_rows")
    recorded = recorded if isinstance(recorded, dict) else {}
    cards = about.get("privacy") or {}
    private = [bool(cards.get("model")), *map(bool, cards.get("adapters") or [])]
    digests = [("the model", recorded.get("model"))]
    names = _list(about.get("adapters"))
    for number, digest in enumerate(_list(recorded.get("adapters"))):
        digests.append(
            (f"the adapter {names[number]}" if number < len(names) else "an adapter", digest)
        )
    by_digest = {each.digest: each for each in (*known, *given)}
    matched = [by_digest.get(str(digest)) if digest else None for _, digest in digests]
    left = [each for each in given if each.digest not in {m.digest for m in matched if m}]
    parts = []
    for number, ((name, digest), found) in enumerate(zip(digests, matched, strict=True)):
        closed = number < len(private) and private[number]
        if found:
            parts.append(Part(name, "proven", found, closed))
        elif digest is None and left:  # only the user says
            parts.append(Part(name, "stated", left.pop(0), closed))
        else:
            parts.append(Part(name, "unknown", None, closed))
    return parts


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
