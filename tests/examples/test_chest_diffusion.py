"""examples/chest-diffusion.sh adapts a text encoder to reports and draws X-rays from them."""

import json

import pytest
from PIL import Image
from tests.examples.running import manifest, measured, run_example, stand_ins

from vesalius.models.generator import load_generator
from vesalius.pairs.table import read_pairs

XRAYS = {
    "covid": ("PA chest X-ray, COVID-19 pneumonia", "Patchy opacities in both lower zones."),
    "normal": ("chest X-ray of a child, normal", "The lungs are clear. The heart is normal."),
}


@measured
@pytest.mark.slow
def test_reports_become_images_by_a_small_uvit(tmp_path):
    pytest.importorskip("timm")
    folder = stand_ins(
        tmp_path / "xrays", *(f"24:{k}:{prompt}" for k, (prompt, _) in XRAYS.items())
    )
    for label, (_, report) in XRAYS.items():
        for image in (folder / label).glob("*.jpg"):
            image.with_suffix(".txt").write_text(report)
    out = tmp_path / "out"
    said = run_example("chest-diffusion", folder, out, IMAGES=128, REPORTS=32, COUNT=4)
    assert f"{out}/evidence/report.html" in said

    pairs = read_pairs(out / "pairs.parquet")
    assert set(pairs.column("caption")) == {report for _, report in XRAYS.values()}
    figures = json.loads((out / "text" / "text_encoder" / "validation.json").read_text())
    assert figures

    generator = load_generator(out / "run" / "generator", "cpu", "float32")
    config = generator.unet.config
    assert type(generator.unet).__name__ == "UViT"
    assert (config.width, config.layers, config.tokens, config.sample_size) == (128, 7, 32, 16)
    assert generator.scheduler.config.prediction_type == "flow_prediction"
    assert generator.tokenizer.model_max_length == 32
    drawn = manifest(out / "generated")
    assert len(drawn) == 8 and all("lower zones" in row["prompt"] for row in drawn)
    with Image.open(out / "generated" / drawn[0]["file"]) as image:
        assert image.size == (128, 128)
    assert len(manifest(out / "set")) == 4
    assert {row["prompt"] for row in manifest(out / "set")} <= set(pairs.column("caption"))
