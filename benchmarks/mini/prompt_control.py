"""Do generated images show the label that was asked for? Accuracy of a linear probe, per set.

    python -m benchmarks.mini.prompt_control --pairs PAIRS --features FEATURES --out OUT

FEATURES comes from real_features.py; OUT is the --out of fid.py, whose generated features are
read. For each set a logistic regression learns the labels from the training part of the real
images and is scored on the held-out part (the ceiling) and on the generated images. Balanced
accuracy is the mean over classes. Sets of one class are left out.
"""

import argparse
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mini.common import SETS, RealFeatures, generated_settings
from benchmarks.recording import record, table
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.alignment import label_consistency
from vesalius.models.networks.features import read_features
from vesalius.pairs.table import read_pairs

Labelled = dict[str, tuple[list[int], list[str]]]  # part -> rows and their labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=Path, required=True, help="pairs Parquet with labels")
    parser.add_argument("--features", type=Path, required=True, help="from real_features.py")
    parser.add_argument("--out", type=Path, required=True, help="the --out of fid.py")
    args = parser.parse_args()

    pairs, real = read_pairs(args.pairs), RealFeatures(args.features)
    generated = read_features(args.out / "generated.safetensors")
    labels: dict[tuple[str, int], str] = {}
    parts: dict[str, Labelled] = defaultdict(lambda: {"train": ([], []), "held out": ([], [])})
    columns = [pairs.column(name) for name in ("source", "row", "label", "split")]
    for source, row, label, split in zip(*columns, strict=True):
        labels[source, int(row)] = label
        rows, names = parts[source]["train" if split == "train" else "held out"]
        rows.append(int(row))
        names.append(label)

    head = ["set", "real", "generated", "real bal.", "generated bal.", "chance", "n real", "n gen."]
    shown: list[list[Any]] = [head]
    figures: dict[str, Any] = {}
    for number, name in enumerate(SETS):
        mine = generated["set"] == number
        if len(set(parts[name]["train"][1])) < 2 or not mine.any():
            continue
        train, held_out = (
            (real([(name, row) for row in rows]), names) for rows, names in parts[name].values()
        )
        asked = [labels[name, int(row)] for row in generated["row"][mine]]
        found = label_consistency(train, held_out, (generated["features"][mine], asked))
        figures[name] = asdict(found)
        shown.append([name, *figures[name].values()])
    if figures:
        means = np.mean([row[1:6] for row in shown[1:]], axis=0)
        shown.append(["mean of sets", *map(float, means), "", ""])
    table(shown)
    record(args.out, "prompt_control", figures, generated_settings(args.out))


if __name__ == "__main__":
    try:
        main()
    except VesaliusError as error:
        raise SystemExit(f"error: {error}") from error
