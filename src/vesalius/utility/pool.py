"""The images of a utility experiment as one pool: real rows first, then the synthetic sets.

Labels become classes or, where any has several parts (`edema|effusion`), findings. What a synthetic
image shows is what its manifest says, or the label that all real images with its prompt have.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vesalius.core.documents import read_json
from vesalius.core.labels import findings_of, join_findings, labels_by_caption
from vesalius.core.paths import did_you_mean_path
from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet, joined
from vesalius.images.stored_images import MANIFEST, loads, rows_with_images
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.utility.settings import UtilitySettings


@dataclass(frozen=True)
class Real(ImageSet):
    """The rows of a pairs table that take part."""

    pairs: Pairs
    rows: list[int]  # of the table
    labels: list[str]
    groups: list[str]
    keys: list[str]  # SHA-1 of the files
    splits: list[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.rows)

    def encoded(self, index: int) -> bytes:
        """The image file."""
        return self.pairs.encoded(self.rows[index])

    def column(self, name: str) -> list[str]:
        """Any column of the table as text, "" where there is nothing."""
        whole = self.pairs.column(name)
        return ["" if whole[row] is None else str(whole[row]) for row in self.rows]

    def of(self, split: str) -> list[int]:
        """Positions of one split."""
        return [k for k, name in enumerate(self.splits) if name == split]


def read_real(path: Path | str, where: Mapping[str, str], label: str) -> Real:
    """The rows of a table that have a label, a split other than `unused`, and what `where` asks for.

    Raises VesaliusError where a column is missing, nothing is left, or one class alone.
    """
    return real_of(read_pairs(path), path, where, label)


def real_of(pairs: Pairs, path: Path | str, where: Mapping[str, str], label: str) -> Real:
    """The same of a table that is open; `path` is what messages call it."""
    chosen = rows_where(pairs, path, where, label)
    given = pairs.column(label)
    rows = [k for k in chosen if given[k]]
    if not rows:
        asked = "".join(f", {name}={value}" for name, value in where.items())
        raise VesaliusError(f"{path} has no row with a label in the column {label!r}{asked}")
    notes = []
    if lost := len(chosen) - len(rows):
        notes.append(f"{lost:,} real images have no {label} and take no part")
    columns = map(pairs.column, ("group", "sha1", "split"))
    group, sha1, split = ([column[k] or "" for k in rows] for column in columns)
    labels = [join_findings(findings_of(given[k])) for k in rows]
    if len(frozenset().union(*map(findings_of, labels))) < 2:
        raise VesaliusError(
            f"{path} has one class only, {labels[0]!r}: there is nothing to distinguish"
        )
    return Real(pairs, rows, labels, group, sha1, split, notes)


def rows_where(pairs: Pairs, path: Path | str, where: Mapping[str, str], label: str) -> list[int]:
    """The rows whose split is not `unused` and whose columns have these values.

    Raises VesaliusError for a column, `label` included, that the table does not have.
    """
    names = pairs.table.column_names
    if missing := [name for name in (*where, label) if name not in names]:
        raise VesaliusError(f"{path} has no column {missing[0]!r}: it has {', '.join(names)}")
    chosen = [k for k, split in enumerate(pairs.column("split")) if split != "unused"]
    for name, value in where.items():
        column = pairs.column(name)
        chosen = [k for k in chosen if str(column[k]) == value]
    return chosen


@dataclass(frozen=True)
class Synthetic:
    """A synthetic set: its images, with what its manifest and its about.json say."""

    path: Path
    images: ImageSet
    labels: list[str]
    about: dict[str, Any]


def read_synthetic(
    path: Path | str, real: Real, label: str, where: Mapping[str, str] | None = None
) -> Synthetic:
    """A set with `manifest.jsonl`, in any of the stores that `vesalius synthesize` writes.

    Rows that say of a column in `where` that it is another are left out.
    Raises VesaliusError where it has no manifest, does not say that it is synthetic, or has a label
    that no real image has.
    """
    folder = Path(path)
    if not folder.exists():
        raise VesaliusError(f"there is no folder {path}{did_you_mean_path(folder)}")
    if not (folder / MANIFEST).is_file():
        raise VesaliusError(
            f"{path} is no synthetic set with a {MANIFEST}: make one by `vesalius synthesize`, which "
            "also says what its generator has seen"
        )
    rows = rows_with_images(folder)
    asked = (where or {}).items()
    rows = [row for row in rows if all(str(row.get(name, value)) == value for name, value in asked)]
    if not rows:
        raise VesaliusError(f"{folder / MANIFEST} names no image that is asked for")
    if real_ones := sum(row.get("synthetic") is not True for row in rows):
        raise VesaliusError(
            f"{real_ones} of {len(rows)} rows of {folder / MANIFEST} do not say that they are synthetic"
        )
    known = frozenset().union(*map(findings_of, real.labels))
    by_caption = labels_by_caption(real.column("caption"), real.labels)
    labels = [
        join_findings(findings_of(str(row.get(label) or row.get("label") or "")))
        or by_caption.get(str(row.get("caption") or row.get("prompt") or ""), "")
        for row in rows
    ]
    if unnamed := labels.count(""):
        raise VesaliusError(
            f"{unnamed} of {len(rows)} images of {path} have no label, and no real image has their "
            "prompt: give the plan labels"
        )
    strange = Counter(part for each in labels for part in findings_of(each) if part not in known)
    if strange:
        name, count = strange.most_common(1)[0]
        raise VesaliusError(
            f"{count} images of {path} have the label {name!r}, which no real image has "
            f"({', '.join(sorted(known))}): rename it, or choose a column by --label-column"
        )
    columns = {"label": labels, "caption": [str(row.get("caption") or "") for row in rows]}
    about = folder / "about.json"
    made = read_json(about) if about.is_file() else {}
    return Synthetic(folder, ImageSet(loads(folder, rows), columns), labels, made)


@dataclass(frozen=True)
class Pool(ImageSet):
    """All images, real ones first: what plans and learners index."""

    real: Real
    sets: list[Synthetic]
    kind: Literal["binary", "multi-class", "multi-label"]
    classes: tuple[str, ...]
    targets: np.ndarray  # (P, C) zeros and ones
    images: ImageSet

    def __len__(self) -> int:
        return len(self.images)

    def encoded(self, index: int) -> bytes:
        """The image file."""
        return self.images.encoded(index)

    def column(self, name: str) -> list[str]:
        """Labels, captions, and of real images any column."""
        return self.images.column(name)

    def rows(self, number: int) -> np.ndarray:
        """Rows of the pool that are of synthetic set `number`."""
        sizes = [len(each.labels) for each in self.sets]
        return np.arange(sizes[number]) + len(self.real) + sum(sizes[:number])

    @property
    def exclusive(self) -> bool:
        """Whether an image has exactly one class."""
        return self.kind != "multi-label"


def make_pool(real: Real, sets: Sequence[Synthetic]) -> Pool:
    """The pool of a table and its synthetic sets."""
    labels = [*real.labels, *(label for each in sets for label in each.labels)]
    classes = tuple(sorted(frozenset().union(*map(findings_of, real.labels))))
    column = {name: k for k, name in enumerate(classes)}
    targets = np.zeros((len(labels), len(classes)), np.float32)
    for row, label in enumerate(labels):
        for part in findings_of(label):
            targets[row, column[part]] = 1
    several = any("|" in label for label in labels)
    kind = "multi-label" if several else "binary" if len(classes) == 2 else "multi-class"
    images = joined([real, *(each.images for each in sets)])
    return Pool(real, list(sets), kind, classes, targets, images)


def read_pool(
    real: Path | str, synthetic: Path | str | Sequence[Path | str], settings: UtilitySettings
) -> Pool:
    """The pool of a pairs table and of one synthetic set or several.

    Raises VesaliusError as `read_real` and `read_synthetic` do.
    """
    paths = [synthetic] if isinstance(synthetic, Path | str) else synthetic
    table = read_real(real, settings.where, settings.label)
    return make_pool(
        table, [read_synthetic(path, table, settings.label, settings.where) for path in paths]
    )
