"""examples/medisyn.sh trains one model on several sets and compares the classifiers of one."""

import json
from collections import Counter

import pytest
from tests.examples.running import manifest, measured, run_example, stand_ins, verdict

from vesalius.pairs.table import read_pairs


@measured
@pytest.mark.slow
def test_one_model_draws_every_set_and_one_set_is_classified(tmp_path):
    skin = stand_ins(
        tmp_path / "skin",
        "20:nv:dermoscopic photograph of a nevus",
        "20:mel:dermoscopic photograph of a melanoma",
    )
    brain = stand_ins(
        tmp_path / "brain", "10:glioma:brain MRI, glioma", "10:notumor:brain MRI, no tumor"
    )
    out = tmp_path / "out"
    sources = f"dermoscopy={skin}", out, f"brain_mri={brain}"
    said = run_example("medisyn", *sources, IMAGES=32, COUNT=16)
    assert f"{out}/evidence/report.html" in said

    pairs = read_pairs(out / "pairs.parquet")
    assert set(pairs.column("source")) == {"dermoscopy", "brain_mri"}
    assert "dermoscopy image of melanoma" in pairs.column("caption")
    labels = Counter(row["label"] for row in manifest(out / "set"))
    assert labels == {"nv": 4, "mel": 4, "glioma": 4, "notumor": 4}

    metrics = json.loads((out / "evidence" / "metrics.json").read_text())
    figures = metrics["sets"]["set"]["figures"]
    of = {row["of"] for row in figures if row["metric"] == "fid"}
    assert {"dermoscopy", "brain_mri"} <= of
    _, arms = verdict(out / "utility")
    assert arms == {"real", "synthetic", "mixed", "pretrained"}
    results = json.loads((out / "utility" / "results.json").read_text())
    assert set(results["task"]["classes"]) == {"nv", "mel"}
