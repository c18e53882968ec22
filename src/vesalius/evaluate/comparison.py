"""The two sides of a comparison: real images, parted by what the generator has seen, and synthetic.

Both references stand beside each other in every figure: images that the generator learned from,
`train`, and images that it never saw, `held_out`. A generator that memorises is near to the first.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from vesalius.core.labels import findings_of, join_findings
from vesalius.core.trained_on import TrainedOn, find_rows, read_rows
from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet, Survey, joined
from vesalius.models.networks.features import Extracted
from vesalius.pairs.open_images import open_images

TRAIN, HELD_OUT, REAL = "train", "held_out", "real"
COLUMNS = ("label", "caption", "group", "source")
Columns = dict[str, list[str]]


@dataclass(frozen=True)
class Side(ImageSet):
    """Images that could be read, and what is known of them, row for row."""

    name: str
    images: ImageSet
    survey: Survey
    features: dict[str, np.ndarray]  # extractor's name -> (n, D) float32
    columns: Columns
    classes: list[frozenset[str]]  # of each image, maybe several findings

    def __len__(self) -> int:
        return len(self.classes)

    def encoded(self, index: int) -> bytes:
        """The image file."""
        return self.images.encoded(index)

    def column(self, name: str) -> list[str]:
        """One column; `sha1` is that of the file."""
        return self.survey.keys if name == "sha1" else self.columns[name]

    @property
    def groups(self) -> list[str]:
        """The patient of each image; without one an image is its own."""
        return [g or f"\0{k}" for k, g in enumerate(self.columns["group"])]

    @cached_property
    def labels(self) -> list[str]:
        """All classes of an image as one label, "" for none."""
        return [join_findings(each) for each in self.classes]

    def rows(self, name: str) -> list[int]:
        """The images of one class."""
        return [k for k, each in enumerate(self.classes) if name in each]

    def take(self, rows: Sequence[int], name: str | None = None) -> "Side":
        """Some of the images, as a side of its own."""
        return Side(
            name or self.name,
            self.images.take(rows),
            _surveyed(self.survey, rows),
            {key: x[list(rows)] for key, x in self.features.items()},
            {key: [values[k] for k in rows] for key, values in self.columns.items()},
            [self.classes[k] for k in rows],
        )


def _surveyed(survey: Survey, rows: Sequence[int]) -> Survey:
    """What is known of some readable rows."""
    return Survey(
        [survey.keys[k] for k in rows],
        [survey.sizes[k] for k in rows],
        [survey.modes[k] for k in rows],
        [survey.formats[k] for k in rows],
    )


def together(sides: Sequence[Side], name: str) -> Side:
    """All images of the sides, in their order."""
    first, *others = sides
    for other in others:
        features = {
            key: np.concatenate([x, other.features[key]]) for key, x in first.features.items()
        }
        one, two = first.survey, other.survey
        survey = Survey(
            one.keys + two.keys,
            one.sizes + two.sizes,
            one.modes + two.modes,
            one.formats + two.formats,
        )
        columns = {key: values + other.columns[key] for key, values in first.columns.items()}
        images, classes = joined([first.images, other.images]), first.classes + other.classes
        first = Side(name, images, survey, features, columns, classes)
    return first


def told(images: ImageSet, by: str) -> Columns:
    """What a set says of each image, "" where nothing. `by` is one more column, if there is one."""
    columns: Columns = {}
    for name in (*COLUMNS, by):
        try:
            columns[name] = [str(value or "") for value in images.column(name)]
        except KeyError:  # a table without it
            columns[name] = [""] * len(images)
    return columns


@dataclass(frozen=True)
class Naming:
    """Which class an image is of, learned from the real images.

    A synthetic image that tells no label has that of the real images with its caption. A label that
    several sources use, such as "normal", is one class a source: a normal chest is no normal eye.
    """

    by: str
    caption: dict[str, dict[str, str]]  # column -> caption -> the one value that goes with it
    label: dict[str, dict[str, str]]
    shared: frozenset[str]  # findings of more than one source

    @classmethod
    def learn(cls, real: Sequence[Columns], by: str) -> "Naming":
        """Raises VesaliusError where no real image has anything in the column `by`."""
        whole = {name: [v for c in real for v in c[name]] for name in real[0]}
        if not any(whole[by]):
            raise VesaliusError(f"no real image has a {by}: choose another column by --by")
        sources: dict[str, set[str]] = {}
        for label, source in zip(whole["label"], whole["source"], strict=True):
            for finding in findings_of(label):
                sources.setdefault(finding, set()).add(source)
        names = ("label", "source", by)
        return cls(
            by,
            {name: _one_value(whole["caption"], whole[name]) for name in names},
            {name: _one_value(whole["label"], whole[name]) for name in names},
            frozenset(finding for finding, where in sources.items() if len(where) > 1),
        )

    def fill(self, columns: Columns) -> Columns:
        """The columns with what captions and labels tell in the place of what is missing."""
        filled = dict(columns)
        for name in dict.fromkeys(("label", "source", self.by)):
            filled[name] = [
                value or self.caption[name].get(caption, "") or self.label[name].get(label, "")
                for value, caption, label in zip(
                    filled[name], filled["caption"], filled["label"], strict=True
                )
            ]
        return filled

    def classes(self, columns: Columns) -> list[frozenset[str]]:
        """The classes of each image."""
        if self.by != "label":
            return [frozenset({value} if value else ()) for value in columns[self.by]]
        return [
            frozenset(
                f"{finding} ({source})" if finding in self.shared and source else finding
                for finding in findings_of(label)
            )
            for label, source in zip(columns["label"], columns["source"], strict=True)
        ]


def _one_value(keys: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Keys that stand beside one value only, with that value."""
    found: dict[str, set[str]] = {}
    for key, value in zip(keys, values, strict=True):
        if key and value:
            found.setdefault(key, set()).add(value)
    return {key: next(iter(each)) for key, each in found.items() if len(each) == 1}


def make_side(name: str, images: ImageSet, extracted: Extracted, naming: Naming) -> Side:
    """The readable images of a set with their features and classes."""
    rows = extracted.rows.tolist()
    columns = {key: [v[k] for k in rows] for key, v in told(images, naming.by).items()}
    columns = naming.fill(columns)
    return Side(
        name,
        images.take(rows),
        _surveyed(extracted.survey, rows),
        extracted.features,
        columns,
        naming.classes(columns),
    )


@dataclass(frozen=True)
class Seen:
    """What a generator has learned from, as far as anybody tells."""

    known: bool
    how: str  # who says so, for the report
    images: TrainedOn | None = None  # by their hashes
    table: ImageSet | None = field(default=None, repr=False)  # the images, where they are at hand


def read_seen(train: Path | str | None, beside: Path | None = None) -> Seen:
    """What `train` says, a table or a run's training_rows.json, or that file `beside` a model.

    Raises VesaliusError where it cannot be read.
    """
    path = Path(train) if train is not None else beside
    if listed := path and find_rows(path):
        images = read_rows(listed)
        how = f"the {len(images.images):,} images that {listed.name} names"
        return Seen(True, how, images)
    if path is None or train is None:
        return Seen(False, "nothing tells what the generator learned from")
    table = open_images(path)
    split = told(table, "split")["split"]
    rows = [k for k, name in enumerate(split) if name == "train"] or list(range(len(table)))
    return Seen(True, f"the {len(rows):,} training images of {path.name}", table=table.take(rows))


def divide(real: Side, split: Sequence[str], seen: Seen, train: Side | None) -> dict[str, Side]:
    """The references: what the generator has seen, and what it has not; one alone where it must be.

    `split` is what the table says of each image of `real`; `train` are the images of `seen.table`.
    Images of a patient who was seen are in neither.
    """
    keys, groups = (seen.images.images, seen.images.people) if seen.images else ((), ())
    if train is not None:
        keys = frozenset(train.survey.keys)
        groups = frozenset(train.columns["group"]) - {""}
    if seen.known:
        own = [k for k, key in enumerate(real.survey.keys) if key in keys]
        new = [
            k
            for k, (key, group) in enumerate(
                zip(real.survey.keys, real.columns["group"], strict=True)
            )
            if key not in keys and group not in groups
        ]
    elif "train" in split:
        own = [k for k, name in enumerate(split) if name == "train"]
        new = [k for k, name in enumerate(split) if name in ("val", "test")]
    else:
        return {REAL: real.take(range(len(real)), REAL)}
    found = {TRAIN: train or real.take(own, TRAIN), HELD_OUT: real.take(new, HELD_OUT)}
    return {name: side for name, side in found.items() if len(side)}


def matched(real: Side, fake: Side, seed: int = 0) -> Side:
    """As many real images of each label as there are synthetic ones, where there are; at random."""
    rng = np.random.default_rng(seed)
    wanted, rows = Counter(fake.labels), []
    for label, count in sorted(wanted.items()):
        own = [k for k, name in enumerate(real.labels) if name == label]
        rows += rng.permutation(own)[:count].tolist() if own else []
    return real.take(sorted(rows))


def classes_of(fake: Side, most: int) -> list[str]:
    """Classes with synthetic images, those with most first; at most so many."""
    counts = Counter(name for each in fake.classes for name in each)
    return sorted(counts, key=lambda name: (-counts[name], name))[:most]
