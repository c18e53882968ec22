"""Each row is drawn with the adapter of its own label, whoever draws it and in whatever order."""

import json

import pytest
import torch
from tests.synthesize.test_engine import LABELS, files, plan, synthesize

from vesalius.core.manifest import file_sha256, read_manifest
from vesalius.errors import VesaliusError
from vesalius.images.pixels import open_rgb
from vesalius.models.adapter_files import LORA_FILE
from vesalius.models.adapters import add_lora, lora_tensors, save_lora
from vesalius.models.embeddings import save_embedding
from vesalius.models.generator import load_generator
from vesalius.sample.generate import load
from vesalius.sample.switching import Switching
from vesalius.synthesize.engine import synthesize as synthesize_rows
from vesalius.synthesize.row_adapters import RowAdapters, adapters_of_rows
from vesalius.synthesize.settings import SynthesizeSettings

CPU = {"device": "cpu", "dtype": "bfloat16"}


def write_lora(folder, model, seed):
    """A LoRA of U-Net and text encoder that changes much."""
    generator = load_generator(model, "cpu", "float32")
    add_lora(generator.unet, generator.text_encoder, 2, 2.0, seed=seed)
    tensors = lora_tensors(generator.unet, generator.text_encoder)
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(t.shape, generator=draw) for name, t in sorted(tensors.items())}
    folder.mkdir(parents=True)
    save_lora(folder, tensors, {"alpha": 2.0})
    digest = {"training_rows_sha256": f"rows of {folder.parent.name}"}
    (folder / "adapter.json").write_text(json.dumps(digest))


@pytest.fixture(scope="module")
def run(tiny_flow, tmp_path_factory):
    """A run with an adapter for each label, and one beside it that is for all."""
    folder = tmp_path_factory.mktemp("runs") / "cells"
    for seed, label in enumerate(LABELS):
        write_lora(folder / label / "adapter", tiny_flow, seed + 1)
    write_lora(folder.parent / "stain" / "adapter", tiny_flow, 9)
    return folder


@pytest.fixture(scope="module")
def whole(run, tiny_flow, tmp_path_factory):
    """The set of `plan()`, each row by the adapter of its label, made at once."""
    out = tmp_path_factory.mktemp("sets") / "whole"
    synthesize(plan(), out, model=str(tiny_flow), adapters=(str(run),), chunk=8, **CPU)
    return out


def test_a_run_stands_for_the_adapter_of_each_label(run):
    own = {label: (str(run / label / "adapter"),) for label in LABELS}
    assert adapters_of_rows([str(run)], LABELS) == RowAdapters((), own)
    weighted = adapters_of_rows([f"{run}:0.5"], ["nodule"])
    assert weighted.of_label == {"nodule": (f"{own['nodule'][0]}:0.5",)}
    found = adapters_of_rows(["a.safetensors", str(run), "nodule=b:0.5"], LABELS)
    assert found.common == ("a.safetensors",)
    assert found.of_label == {"nodule": ("b:0.5",), "effusion": own["effusion"]}
    assert found.files == ("a.safetensors", *own["effusion"], "b:0.5")
    assert adapters_of_rows([str(run / "nodule")], LABELS).of_label == {}


def test_labels_and_files_may_have_an_equals_sign(tmp_path):
    file = tmp_path / "a=b.safetensors"
    file.write_bytes(b"")
    assert adapters_of_rows([str(file), f"{file}:0.5"], LABELS).common == (
        str(file),
        f"{file}:0.5",
    )
    found = adapters_of_rows(["grade=2=x", "grade=y"], ["grade", "grade=2"])
    assert found.of_label == {"grade": ("y",), "grade=2": ("x",)}
    assert adapters_of_rows(["grade 2/3=x"], ["grade 2/3"]).of_label == {"grade 2/3": ("x",)}
    assert adapters_of_rows(["runs/a=b/adapter"], LABELS).common == ("runs/a=b/adapter",)


def test_a_label_without_an_adapter_is_refused_and_one_that_is_not_there(run):
    with pytest.raises(VesaliusError, match=r"no adapter for the label 'scar', only for effusion,"):
        adapters_of_rows([str(run)], [*LABELS, "scar"])
    found = adapters_of_rows([str(run), "scar=x"], [*LABELS, "scar"])
    assert found.of_label["scar"] == ("x",)
    with pytest.raises(VesaliusError, match="rows without a label"):
        adapters_of_rows([str(run)], [""])
    with pytest.raises(VesaliusError, match=r"'nodul': did you mean nodule\?"):
        adapters_of_rows(["nodul=x"], LABELS)
    assert adapters_of_rows(["nodule=x"], LABELS).bare == ["effusion"]


def test_each_row_has_the_adapter_of_its_label_to_the_bit(run, whole, tiny_flow, tmp_path):
    rows = read_manifest(whole / "manifest.jsonl")
    for label in LABELS:
        hash = file_sha256(run / label / "adapter" / LORA_FILE)[:16]
        mine = [row for row in rows if row["label"] == label]
        assert {row["adapters"] for row in mine} == {f"{label} ({hash}) * 1"}
        # the same as of a model that has that adapter alone
        alone = load(str(tiny_flow), "cpu", "bfloat16", [str(run / label / "adapter")])
        some = [row for row in plan() if row.label == label]
        synthesize(some, tmp_path / label, model=alone, chunk=4)
        for row in read_manifest(tmp_path / label / "manifest.jsonl"):
            (same,) = [one for one in mine if one["row"] == row["row"]]
            made, here = (
                out / one["file"] for out, one in ((tmp_path / label, row), (whole, same))
            )
            assert made.read_bytes() == here.read_bytes()
    about = json.loads((whole / "about.json").read_text())
    assert [text.partition(":")[0] for text in about["adapters"]] == sorted(LABELS)
    assert about["training_rows"]["adapters"] == [f"rows of {label}" for label in sorted(LABELS)]


def test_shards_batches_and_a_stop_change_nothing(run, whole, tiny_flow, tmp_path):
    asked = {"model": str(tiny_flow), "adapters": (str(run),), "chunk": 8, **CPU}
    for shard in ("1/2", "0/2"):
        synthesize(plan(), tmp_path / "shards", shard=shard, **asked)
    assert files(tmp_path / "shards") == files(whole)

    def stop(done, rows):
        if done > 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(plan(), tmp_path / "stopped", on_progress=stop, **asked)
    synthesize(plan(), tmp_path / "stopped", **asked)
    assert files(tmp_path / "stopped") == files(whole)
    with pytest.raises(VesaliusError, match="other adapters"):
        synthesize(plan(), tmp_path / "stopped", **asked | {"adapters": (f"{run}:0.5",)})


def test_adapters_change_once_a_label_and_not_once_a_row(run, tiny_flow, tmp_path, monkeypatch):
    used = []
    switch = Switching.use
    monkeypatch.setattr(
        Switching, "use", lambda self, name: (used.append(name), switch(self, name))
    )
    asked = {"model": str(tiny_flow), "adapters": (str(run),), "chunk": 10, **CPU}
    synthesize(plan(), tmp_path / "set", **asked)
    assert used == ["effusion", "nodule", "nodule", "effusion"]  # of two chunks with both


def test_weights_are_put_back_to_the_bit(run, tiny_flow):
    model = load(str(tiny_flow), "cpu", "bfloat16", [str(run.parent / "stain")])
    lists = {label: [str(run / label / "adapter")] for label in LABELS} | {"none": []}
    switching = Switching(model, lists)
    before = {name: t.clone() for name, t in model.generator.unet.state_dict().items()}
    for label in (*LABELS, *LABELS, "none"):
        assert switching.use(label).adapters[0].name == "stain"
    after = model.generator.unet.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(VesaliusError, match="no adapter"):
        Switching(model, {"a": ["nowhere"]})


def test_a_word_for_each_label_and_a_warning_where_a_prompt_lacks_it(tiny_flow, tmp_path):
    for label in LABELS:
        save_embedding(tmp_path / "words" / label / "adapter", f"<{label}>", torch.ones(1, 8))
    said = []
    rows = [row for row in plan(4)]
    asked = SynthesizeSettings(model=str(tiny_flow), adapters=(str(tmp_path / "words"),), **CPU)
    synthesize_rows(rows, tmp_path / "set", asked, on_warning=said.append)
    assert [line for line in said if "has no effect: write <effusion>" in line]
    made = read_manifest(tmp_path / "set" / "manifest.jsonl")
    assert [row["adapters"].partition(" ")[0] for row in made] == ["nodule", "effusion"] * 2
    sheet = open_rgb((tmp_path / "set" / "contact-sheet.png").read_bytes())
    assert sheet.size[0] > 0
