"""`vesalius evaluate` with every kind of model it takes: CLIP, VQA, and an adapter of the generator."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vesalius.core.manifest import write_manifest
from vesalius.models.adapters import add_lora, lora_tensors, save_lora
from vesalius.models.generator import load_generator
from vesalius.report.chexgenbench import HEADER
from vesalius.statistics.figure import pick

BASIC = ("--extractors", "inception", "--replicates", 20, "--device", "cpu", "--samples", 1)
pytestmark = pytest.mark.usefixtures("pooled_inception")


@pytest.fixture
def made(tmp_path):
    """Twelve images with the captions of real ones."""
    folder, rng, rows = tmp_path / "made", np.random.default_rng(0), []
    folder.mkdir()
    for k in range(12):
        level, finding = ((180, "nodule"), (40, "effusion"))[k % 2]
        pixels = rng.integers(level, level + 40, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
        rows.append({"file": f"{k}.png", "prompt": f"chest x-ray, {finding}"})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


@pytest.fixture
def evaluated(run_cli, tiny_pairs, made, tmp_path):
    """metrics.json of the command with some options, and its page."""

    def run(*options):
        out = tmp_path / "out"
        call = ("--real", tiny_pairs, "--synthetic", made, "--out", out, *BASIC, *options)
        code, _, err = run_cli("evaluate", *call)
        assert code == 0, err
        return json.loads((out / "metrics.json").read_text()), (out / "report.html").read_text()

    return run


def test_a_clip_scores_synthetic_and_real_images_beside_shuffled_captions(evaluated, tiny_clip):
    document, page = evaluated("--only", "alignment", "--clip", tiny_clip)
    figures = document["sets"]["made"]["figures"]
    new = document["references"]["held_out"]["images"]
    for reference, count in (("synthetic", 12), ("held_out", new)):
        (score,) = pick(figures, metric="clip_score", of="all", reference=reference)
        assert (score["n"], score["extractor"]) == (count, str(tiny_clip))
        assert score["low"] <= score["value"] <= score["high"]
        metric = "clip_score of shuffled captions"
        (shuffled,) = pick(figures, metric=metric, reference=reference)
        assert shuffled["value"] is not None
    classes = {f["of"] for f in pick(figures, metric="clip_score", reference="synthetic")}
    assert classes == {"all", "nodule (lungs)", "effusion (lungs)"}
    assert "under captions of other images" in page


@pytest.mark.parametrize("kind", ["llava", "blip2"])
def test_a_vision_language_model_says_yes_or_no_to_each_caption(evaluated, kind, request):
    folder = request.getfixturevalue(kind)
    document, page = evaluated("--only", "alignment", "--vqa", folder)
    figures = document["sets"]["made"]["figures"]
    for reference in ("synthetic", "held_out"):
        (score,) = pick(figures, metric="vqa_score", of="all", reference=reference)
        (share,) = pick(figures, metric="vqa_yes_of_both", of="all", reference=reference)
        assert 0 < score["value"] <= share["value"] < 1  # the one is over all words
    assert "VQAScore" in page


def test_a_lora_is_attacked_with_its_base_as_the_reference(evaluated, tiny_flow, tmp_path):
    parts = load_generator(tiny_flow, "cpu", "float32")
    torch.manual_seed(0)
    for parameter in add_lora(parts.unet, None, 2, 6.0):
        torch.nn.init.normal_(parameter)
    lora = save_lora(tmp_path / "l.safetensors", lora_tensors(parts.unet, None), {"alpha": 6.0})
    options = ("--only", "membership,audit,cost", "--model", tiny_flow)
    document, page = evaluated(*options, "--adapter", f"{lora}:0.5")
    model = document["model"]
    assert model["name"] == f"{tiny_flow} + {lora}:0.5"
    assert model["details"]["membership"]["calibrated_by_base_model"]
    values = {f["metric"]: f["value"] for f in model["figures"] if f["part"] == "membership"}
    assert {*values} == {
        "auroc",
        "found",
        "clid",
        "blind",
        "base_model",
        "set_test",
        "set_test_of_base",
    }
    assert all(value is None or 0 <= value <= 1 for value in values.values())
    (audited,) = pick(model["figures"], part="audit", metric="epsilon")
    assert 0 <= audited["value"] <= audited["details"]["ceiling"]
    assert "could be shown" in page
    (seconds,) = pick(model["figures"], metric="seconds_per_image")
    assert seconds["details"]["least"] <= seconds["value"] <= seconds["details"]["most"]
    assert seconds["low"] is None and "median of 3 runs" in seconds["note"]  # that is no interval
    assert "The model" in page


def test_a_lora_of_no_strength_is_not_attacked_in_vain(evaluated, tiny_flow, tmp_path):
    parts = load_generator(tiny_flow, "cpu", "float32")
    add_lora(parts.unet, None, 2, 6.0)  # as it starts: it changes nothing
    lora = save_lora(tmp_path / "l.safetensors", lora_tensors(parts.unet, None), {"alpha": 6.0})
    options = ("--only", "membership", "--model", tiny_flow, "--adapter", lora)
    document, _ = evaluated(*options)
    (figure,) = document["model"]["figures"]
    assert figure["value"] is None
    assert "has the adapter been applied?" in figure["why"]


def test_a_table_in_the_shape_of_chexgenbench_holds_the_alignment_score(
    evaluated, tiny_clip, tmp_path
):
    parts = "fidelity,alignment,privacy"
    document, _ = evaluated("--chexgenbench", "--only", parts, "--clip", tiny_clip)
    rows = list(csv.DictReader((tmp_path / "out" / "chexgenbench.csv").open()))
    assert tuple(rows[0]) == HEADER
    assert rows[0]["set"] == "made" and rows[0]["class"] == "all"
    figures = document["sets"]["made"]["figures"]
    for metric, column in (("fid", "fid"), ("clip_score", "alignment_score")):
        reference = "synthetic" if metric == "clip_score" else "train"
        (figure,) = pick(figures, metric=metric, of="all", reference=reference)
        assert float(rows[0][column]) == pytest.approx(figure["value"])
    assert float(rows[0]["pixel_distance"]) > 0
    assert rows[0]["reid_score"] == ""  # its network is not to be had
