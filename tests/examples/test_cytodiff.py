"""examples/cytodiff.sh keeps the test images apart and draws each class with its own LoRA."""

from collections import Counter

import pytest
from tests.examples.running import (
    manifest,
    measured,
    run_example,
    stand_ins,
    training_labels,
    verdict,
)

from vesalius.pairs.table import read_pairs

CLASSES = ["eosinophil", "lymphocyte"]


@measured
@pytest.mark.slow
def test_each_class_is_drawn_by_its_own_lora_from_sixteen_shots(tmp_path):
    cells = stand_ins(
        tmp_path / "cells", *(f"30:{name}:blood cell microscopy, {name}" for name in CLASSES)
    )
    out = tmp_path / "out"
    said = run_example("cytodiff", cells, out, IMAGES=16, COUNT=4)
    assert f"{out}/utility/report.html" in said

    pairs = read_pairs(out / "pairs.parquet")
    assert training_labels(out / "pairs.parquet") == dict.fromkeys(CLASSES, 16)
    assert {name.split(" of an ")[0] for name in pairs.column("caption")} >= {"microscopic image"}
    rows = manifest(out / "set")
    assert Counter(row["label"] for row in rows) == dict.fromkeys(CLASSES, 4)
    drawn_by = {name: {row["adapters"] for row in rows if row["label"] == name} for name in CLASSES}
    for name, adapters in drawn_by.items():
        assert len(adapters) == 1
        assert (out / "run" / name / "adapter").is_dir()
    assert not drawn_by[CLASSES[0]] & drawn_by[CLASSES[1]]

    _, arms = verdict(out / "utility")
    assert arms == {"real", "augmented", "synthetic", "mixed", "pretrained"}
