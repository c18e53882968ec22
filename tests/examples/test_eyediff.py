"""examples/eyediff.sh tops up the rare classes and compares the paper's arms."""

import json
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


@measured
@pytest.mark.slow
def test_every_class_becomes_as_large_as_the_largest(tmp_path):
    eyes = stand_ins(
        tmp_path / "eyes",
        "20:normal:color fundus photograph, normal retina",
        "10:glaucoma:color fundus photograph, glaucoma",
        "10:cataract:color fundus photograph, cataract",
    )
    out = tmp_path / "out"
    data = f"fundus={eyes}"
    said = run_example("eyediff", data, out, IMAGES=16)
    assert f"{out}/utility/report.html" in said

    real = training_labels(out / "pairs.parquet")
    made = manifest(out / "set")
    assert set(real) == {"normal", "glaucoma", "cataract"}
    topped_up = real + Counter(row["label"] for row in made)
    assert set(topped_up.values()) == {real["normal"]}
    assert all(row["synthetic"] and row["caption"].endswith(row["label"]) for row in made)
    assert {row["caption"].split(",")[0] for row in made} == {"color fundus photograph"}
    for row in made:
        assert row["file"] is None or (out / "set" / row["file"]).is_file()

    metrics = json.loads((out / "evidence" / "metrics.json").read_text())
    assert metrics["training"]["known"]
    answer, arms = verdict(out / "utility")
    assert arms == {"real", "oversampled", "weighted", "minority"}
    assert answer in ("helped", "no more than a baseline", "not shown", "harmed")

    kept = [
        out / "set" / "manifest.jsonl",
        *sorted((out / "run" / "generator").rglob("*.safetensors")),
    ]
    before = [path.read_bytes() for path in kept]
    run_example("eyediff", data, out, IMAGES=16)  # once more: what is there stays as it is
    assert before == [path.read_bytes() for path in kept]
