"""What the benchmarks of the model `mini` share: the protocol's rows, real features, the record."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.models.networks.features import read_features
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


class RealFeatures:
    """Features of real images by set and row, as real_features.py stored them."""

    def __init__(self, folder: Path) -> None:
        self.sets = {name: read_features(folder / f"{name}.safetensors") for name in SETS}

    def __call__(self, keys: Sequence[tuple[str, int]]) -> np.ndarray:
        """Features (N, 2048) of the images (set, row)."""
        return np.stack([self.sets[name]["features"][row] for name, row in keys])


def generated_settings(out: Path) -> dict[str, Any]:
    """Which model and sampler made the images whose features fid.py stored in `out`."""
    return json.loads((out / "generated.json").read_text())
