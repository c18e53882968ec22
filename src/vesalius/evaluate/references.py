"""What a set is compared with: real images, parted by what the generator has learned from.

Both references stand beside each other in every figure: images that the generator learned from,
`train`, and images that it never saw, `held_out`. A generator that memorises is near to the first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import numpy as np

from vesalius.core.documents import read_json
from vesalius.core.privacy_card import cards_of_set
from vesalius.core.trained_on import ROWS_FILE, TrainedOn, find_rows, parts_of, read_rows
from vesalius.errors import VesaliusError
from vesalius.evaluate.naming import columns_of
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.image_set import ImageSet
from vesalius.models.trained_on import of_bundled_models
from vesalius.pairs.open_images import open_images
from vesalius.pairs.table import read_pairs
from vesalius.pairs.trained_on import lists_of, read_trained_on

TRAIN, HELD_OUT, REAL = "train", "held_out", "real"


@dataclass(frozen=True)
class Training:
    """What a generator has learned from, as far as that is known."""

    known: bool
    how: str  # who says so, for the report
    images: TrainedOn | None = None  # by their hashes
    table: ImageSet | None = field(default=None, repr=False)  # the images, where they are at hand
    path: Path | None = None  # of that table


def read_training(train: Path | str | None, beside: Path | None = None) -> Training:
    """What `train` says, a table or a run's training_rows.json, or that file `beside` a model.

    Raises VesaliusError where it cannot be read.
    """
    path = Path(train) if train is not None else beside
    if listed := path and find_rows(path):
        images = read_rows(listed)
        how = f"the {len(images.images):,} images that {listed.name} names"
        return Training(True, how, images)
    if path and any(path.glob(f"*/{ROWS_FILE}")):  # a run with an adapter for each label
        images = reduce(TrainedOn.plus, read_trained_on(path))
        how = f"the {len(images.images):,} images that the adapters of {path.name} name"
        return Training(True, how, images)
    if path is None or train is None:
        return Training(False, "it is not known what the generator learned from")
    table = open_images(path)
    split = columns_of(table, "split")["split"]
    rows = [k for k, name in enumerate(split) if name == "train"] or list(range(len(table)))
    return Training(
        True, f"the {len(rows):,} training images of {path.name}", None, table.take(rows), path
    )


def of_a_private_model(sets: Iterable[Path]) -> bool:
    """Whether a set's own record says that its model names no training images, by intent."""
    files = [folder / "about.json" for folder in sets]
    return any(cards_of_set(read_json(file)) for file in files if file.is_file())


def recorded_training(sets: Iterable[Path], real: Path) -> Training | None:
    """What the sets' own records prove that their generators have learned from; None where they do not.

    A set of `vesalius synthesize` names in its about.json the digest of what its model and adapters were
    trained on. It is that of a bundled model, or of the training rows of the table `real`, all or of
    a label.
    """
    known, found = of_bundled_models(), []
    if real.suffix == ".parquet":
        with suppress(VesaliusError):  # a table that `vesalius pairs` did not write
            known += lists_of(read_pairs(real), real.name)
    for folder in sets:
        if not (folder / "about.json").is_file():
            return None
        for part in parts_of(read_json(folder / "about.json"), [], known):
            if part.trained_on is None:
                return None
            found.append(part.trained_on)
    if not found:
        return None
    images = reduce(TrainedOn.plus, found)
    how = f"the {len(images.images):,} images that its own record names (about.json)"
    return Training(True, how, images)


def why_no_coin(real: Path, training: Training) -> str:
    """Why no fair coin decided who of the table was trained on; "" where one did.

    `vesalius pairs --split val=...,test=...` draws patients at random, and its datasheet says so.
    """
    if training.path is not None and training.path.resolve() != real.resolve():
        return "the training images are of another table, so that no coin decided who is in it"
    sheet = real.with_suffix("").with_name(f"{real.stem}.datasheet.json")
    again = "make the table with `vesalius pairs --split val=0.1,test=0.2`, and train on that"
    if not sheet.is_file():
        return (
            f"{sheet.name}, which says how patients were divided, is not beside the table: {again}"
        )
    options = read_json(sheet).get("options") or {}
    spec = str(options.get("split") or "auto")
    if options.get("test"):
        return f"somebody chose the patients of the test split (--test): {again}"
    if spec in ("auto", "own", "none"):
        return (
            f"the source's own split may have been kept (--split {spec}), and who chose it may have "
            f"chosen patients that differ: {again}"
        )
    return ""


def divide(
    real: ComparedSet, split: Sequence[str], training: Training, train: ComparedSet | None
) -> dict[str, ComparedSet]:
    """The references: what the generator has seen, and what it has not; one alone where it must be.

    `split` is what the table says of each image of `real`; `train` are the images of `training.table`.
    Images of a patient who was seen are in neither.
    """
    keys, groups = (training.images.images, training.images.people) if training.images else ((), ())
    if train is not None:
        keys = frozenset(train.survey.keys)
        groups = frozenset(train.columns["group"]) - {""}
    if training.known:
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


def matched(real: ComparedSet, fake: ComparedSet, seed: int = 0) -> ComparedSet:
    """As many real images of each label as there are synthetic ones, where there are; at random."""
    rng = np.random.default_rng(seed)
    wanted, rows = Counter(fake.labels), []
    for label, count in sorted(wanted.items()):
        own = [k for k, name in enumerate(real.labels) if name == label]
        rows += rng.permutation(own)[:count].tolist() if own else []
    return real.take(sorted(rows))


def classes_of(fake: ComparedSet, most: int) -> list[str]:
    """Classes with synthetic images, those with most first; at most so many."""
    counts = fake.class_counts
    return sorted(counts, key=lambda name: (-counts[name], name))[:most]
