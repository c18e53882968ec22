"""examples/textual-inversion.sh learns two words, combines them and paints one into the other's image."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.examples.running import manifest, measured, run_example, stand_ins

WORDS = {"healthy": "brain MRI, no tumor", "tumor": "brain MRI, meningioma"}


@measured
@pytest.mark.slow
def test_two_words_are_learnt_combined_and_painted(tmp_path):
    brains = stand_ins(tmp_path / "brains", *(f"24:{k}:{v}" for k, v in WORDS.items()))
    out = tmp_path / "out"
    said = run_example("textual-inversion", brains, out, IMAGES=16, COUNT=4)
    assert f"{out}/evidence/report.html" in said
    for label in WORDS:
        adapter = out / "run" / label / "adapter"
        weights = adapter / "learned_embeds.safetensors"
        assert weights.stat().st_size < 1_000_000
        about = json.loads((adapter / "adapter.json").read_text())
        assert (about["token"], about["vectors"]) == (f"<{label}>", 16)
    prompts = [row["prompt"] for row in manifest(out / "generated")]
    assert prompts == ["<healthy>"] * 4 + ["<tumor>"] * 4
    assert len(manifest(out / "between")) == 7
    composed = {row["prompt"] for row in manifest(out / "composed")}
    assert composed == {"<healthy>:0.3 AND <tumor>:0.7", "<healthy> AND <tumor>:0.5"}

    first = out / "generated" / "00000.png"
    painted = manifest(out / "inpainted")
    assert len(painted) == 4
    before = np.asarray(Image.open(first).convert("RGB"))
    after = np.asarray(Image.open(out / "inpainted" / painted[0]["file"]).convert("RGB"))
    changed = (before != after).any(-1)
    assert changed[100:156, 110:146].any()
    assert not changed[:60].any() and not changed[:, :70].any()  # outside of the ellipse

    labels = [row["label"] for row in manifest(out / "set")]
    assert sorted(labels) == ["healthy"] * 4 + ["tumor"] * 4
    for row in manifest(out / "set"):
        assert row["prompt"] == f"<{row['label']}>"

    run_example(
        "textual-inversion", brains, out, IMAGES=16, COUNT=4
    )  # again: nothing is in the way
