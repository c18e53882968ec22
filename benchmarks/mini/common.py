"""What the benchmarks of the model `mini` share: which real images are measured."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vesalius.pairs.table import Pairs

SIDE = 256  # pixels; real and generated images are compared at this size
SETS = (
    "blood_cells",
    "brain_mri",
    "breast_ultrasound",
    "chest_ct",
    "chest_xray",
    "dermoscopy",
    "fundus",
    "head_ct",
    "lung_histology",
    "prostate_mri",
)


@dataclass(frozen=True)
class Item:
    """One real image of the protocol and what a generator is asked for in its place."""

    source: str
    row: int  # in the set's Parquet file
    index: int  # in the pairs table
    caption: str
    label: str
    held_out: bool


def protocol(data: Path, pairs: Pairs) -> list[Item]:
    """The protocol's images that the pairs table has, in an order whose every prefix is fair.

    Sets come in proportion in any first N, and within a set the order is random but fixed, so a
    run that stops early has measured a stratified sample. Joined by set and row: the hash in the
    protocol is that of the original image, the one in the pairs table that of the stored bytes.
    """
    columns = [pairs.column(name) for name in ("source", "row", "caption", "label", "split")]
    known = {
        (source, int(row)): Item(source, int(row), index, caption, label, split != "train")
        for index, (source, row, caption, label, split) in enumerate(zip(*columns, strict=True))
    }
    with open(data / "fid_protocol.csv", newline="") as file:
        wanted = [(line["set"], int(line["row"])) for line in csv.DictReader(file)]
    keys = [key for key in wanted if key in known]
    if lost := len(wanted) - len(keys):
        print(f"{lost} of the protocol's {len(wanted)} images are not in the pairs table")
    rng, ranked = np.random.default_rng(0), []
    for name in SETS:
        own = [key for key in keys if key[0] == name]
        for place, which in enumerate(rng.permutation(len(own))):
            ranked.append(((place + 0.5) / len(own), own[which]))
    return [known[key] for _, key in sorted(ranked)]


def of_split(pairs: Pairs, split: str) -> list[Item]:
    """The images of one split, in an order that is random but fixed."""
    columns = [pairs.column(name) for name in ("source", "row", "caption", "label")]
    own = np.random.default_rng(0).permutation(pairs.rows(split)).tolist()
    found = [(index, [column[index] for column in columns]) for index in own]
    return [
        Item(source, int(row), index, caption, label, split != "train")
        for index, (source, row, caption, label) in found
    ]
