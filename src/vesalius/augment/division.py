"""Which images take part, under which class, on which side, and with which words.

The table's own division is kept where it has images to train and to test on, unless another is asked
for; else it is drawn as `vesalius pairs` draws it: whole groups, class by class, source by source.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from vesalius.augment.settings import AugmentSettings
from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.labels import slug
from vesalius.errors import VesaliusError
from vesalius.pairs import splits
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.pairs.write import rewrite_table
from vesalius.utility.pool import rows_where

USUAL = "val=0.15,test=0.2"
MOST_SHARED = 0.1  # of the training images, whose caption stands under several labels
LOOKED_AT = 200  # images whose format counts
FEW_TEST = 10  # images of a class
CHANGED = ("caption", "label", "split")


@dataclass(frozen=True)
class Division:
    """A table's rows as they take part; `unused` is the split of those that do not."""

    path: Path
    captions: list[str]
    labels: list[str]
    splits: list[str]
    sources: list[str]
    how: str  # they were divided, in words
    notes: list[str]

    def pairs(self) -> Pairs:
        """The table, opened, as it will be; nothing is written."""
        pairs = read_pairs(self.path)
        for name, values in self.columns().items():
            at = pairs.table.column_names.index(name)
            pairs.table = pairs.table.set_column(at, name, pa.array(values, pa.string()))
        return pairs

    def columns(self) -> dict[str, list[str]]:
        """The columns that differ from the table's own."""
        return dict(zip(CHANGED, (self.captions, self.labels, self.splits), strict=True))

    def write(self, out: Path) -> None:
        """Write the rows that take part, with their images."""
        keep = [split != "unused" for split in self.splits]
        size = self.path.stat().st_size
        with clear_write_errors(out, 2 * size), atomic_path(out) as temporary:
            rewrite_table(self.path, temporary, self.columns(), keep)

    def format(self) -> str | None:
        """`jpeg` where the training images are, so that no network can recognise them by the compression."""
        pairs, rows = self.pairs(), self.rows("train")[:LOOKED_AT]
        some = [pairs.encoded(row)[:2] == b"\xff\xd8" for row in rows]
        return "jpeg" if sum(some) > len(some) / 2 else None

    def rows(self, split: str) -> list[int]:
        """The table's rows of one split."""
        return [row for row, name in enumerate(self.splits) if name == split]

    def classes(self, split: str = "train") -> dict[tuple[str, str], int]:
        """Images of each class of each source, largest first."""
        rows = self.rows(split)
        return dict(Counter((self.sources[k], self.labels[k]) for k in rows).most_common())

    def counts(self) -> dict[str, dict[str, int]]:
        """Images of each label on each side, `all` first."""
        found = {}
        for split in ("train", "val", "test"):
            of = Counter(self.labels[row] for row in self.rows(split))
            found[split] = {"all": sum(of.values()), **dict(sorted(of.items()))}
        return found

    def with_tokens(self) -> "Division":
        """The same with a word of its own for each label in place of every caption.

        Raises VesaliusError where two labels would get one word.
        """
        words = {label: f"<{slug(label)}>" for label in dict.fromkeys(self.labels) if label}
        twice = [word for word, count in Counter(words.values()).items() if count > 1]
        if twice:
            raise VesaliusError(f"several labels would be called {twice[0]}: rename one")
        return replace(self, captions=[words.get(label, "") for label in self.labels])


def divide(path: Path | str, settings: AugmentSettings) -> Division:
    """Read a pairs table and divide it.

    Raises VesaliusError for a column that is missing and a table without images to divide.
    """
    pairs = read_pairs(path)
    some = rows_where(pairs, path, settings.where, settings.label)
    labels = [label or "" for label in pairs.column(settings.label)]
    given = [split or "train" for split in pairs.column("split")]
    notes: list[str] = []
    if unlabelled := sum(not labels[row] for row in some):
        notes.append(f"{unlabelled:,} images have no {settings.label} and take no part")
    some = [row for row in some if labels[row]]
    if not some:
        asked = "".join(f", {name}={value}" for name, value in settings.where.items())
        raise VesaliusError(f"{path} has no image with a {settings.label}{asked}")
    if len({labels[row] for row in some}) < 2:
        raise VesaliusError(
            f"{path} has one class only, {labels[some[0]]!r}: a classifier has nothing to distinguish; "
            "--label-column chooses another column"
        )
    chosen, how = _divided(pairs, labels, given, some, settings)
    captions = _captions(pairs, labels, chosen, some, notes)
    division = Division(Path(path), captions, labels, chosen, pairs.column("source"), how, notes)
    few = {name: n for name, n in division.counts()["test"].items() if n < FEW_TEST}
    if few:
        counts = ", ".join(f"{name} {count}" for name, count in few.items())
        notes.append(f"few test images, so that only large differences will show: {counts}")
    return division


def _divided(
    pairs: Pairs,
    labels: Sequence[str],
    given: Sequence[str],
    some: Sequence[int],
    settings: AugmentSettings,
) -> tuple[list[str], str]:
    """The split of every row, and how it came about."""
    chosen = ["unused"] * len(pairs)
    there = {given[row] for row in some}
    if settings.split is None and {"train", "test"} <= there:
        for row in some:
            chosen[row] = given[row]
        if "val" in there:
            return chosen, "the table's own"
        training = [row for row in some if given[row] == "train"]
        _draw(pairs, labels, training, {"val": 0.15}, settings.seed, chosen)
        return chosen, "the table's own, with a part of its training images to validate on"
    spec = settings.split or USUAL
    fractions = splits.parse_split(spec)
    if set(fractions) != {"val", "test"}:
        raise VesaliusError(f"--split {spec!r}: give both val and test, as in {USUAL}")
    _draw(pairs, labels, some, fractions, settings.seed, chosen)
    return chosen, f"drawn, {spec}, whole groups, seed {settings.seed}"


def _draw(
    pairs: Pairs,
    labels: Sequence[str],
    rows: Sequence[int],
    fractions: dict[str, float],
    seed: int,
    chosen: list[str],
) -> None:
    """Put the split of `rows` into `chosen`; an image without a group is its own."""
    groups, sources, keys = (pairs.column(name) for name in ("group", "source", "sha1"))
    by_source: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        by_source[sources[row]].append(row)
    for own in by_source.values():
        named = [groups[row] or f"\0{keys[row]}" for row in own]
        drawn = splits.assign(named, [labels[row] for row in own], fractions, seed=seed)
        for row, split in zip(own, drawn, strict=True):
            chosen[row] = split


def _captions(
    pairs: Pairs,
    labels: Sequence[str],
    chosen: Sequence[str],
    some: Sequence[int],
    notes: list[str],
) -> list[str]:
    """What each image is called in training and generation: classes must differ by it."""
    captions = [(caption or "").strip() for caption in pairs.column("caption")]
    words = [label.replace("|", ", ").replace("_", " ") for label in labels]
    if empty := sum(not captions[row] for row in some):
        notes.append(f"{empty:,} images have no caption and are called by their label")
    captions = [caption or word for caption, word in zip(captions, words, strict=True)]
    under: defaultdict[str, set[str]] = defaultdict(set)
    training = [row for row in some if chosen[row] == "train"]
    for row in training:
        under[captions[row]].add(labels[row])
    shared = sum(len(under[captions[row]]) > 1 for row in training)
    if training and shared > MOST_SHARED * len(training):
        notes.append(
            f"{shared:,} of {len(training):,} training images have a caption that stands under "
            "several classes: the label was added to all captions, so that they can be distinguished"
        )
        both = zip(captions, words, strict=True)
        captions = [caption if caption == word else f"{caption}, {word}" for caption, word in both]
    return captions
