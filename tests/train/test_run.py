"""Every method that starts from a generator, from a recipe to what stock diffusers loads."""

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.small import stock, stock_image

from vesalius.config import FullRecipe, LoraRecipe, TextualInversionRecipe
from vesalius.core.atomic import locked_folder
from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.pairs.table import read_pairs
from vesalius.sample.generate import TextToImage
from vesalius.train.fine_tuning import token_of
from vesalius.train.methods.textual_inversion import TextualInversionMethod
from vesalius.train.rows import TrainingPairs
from vesalius.train.run import train_recipe
from vesalius.train.session import Session

PLAN = {
    "seen_images": 240,
    "batch": 8,
    "lr": 3e-3,
    "schedule": "constant",
    "precision": "float32",
    "validate_images": 40,
    "validation_size": 8,
    "checkpoint_images": 120,
    "weight_decay": 0.01,
}
KINDS = {"full": FullRecipe, "lora": LoraRecipe, "textual-inversion": TextualInversionRecipe}


def recipe(method, model, plan=None, **fields):
    values = {"method": method, "name": "test", "model": str(model), "size": 32}
    return KINDS[method].model_validate({**values, **fields, "optimisation": PLAN | (plan or {})})


def losses(folder):
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [event["validation"]["loss"] for event in events if "validation" in event]


def states(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return {name for name in one if torch.equal(one[name].float(), other[name].float())}


@pytest.mark.parametrize("model", ["tiny_sd", "tiny_flow"])
@pytest.mark.parametrize("text_encoder", [False, True])
def test_full_learns_and_changes_what_the_recipe_says(
    model, text_encoder, tiny_pairs, tmp_path, request
):
    base = request.getfixturevalue(model)
    wanted = recipe("full", base, train={"text_encoder": text_encoder})
    folder = train_recipe(wanted, tiny_pairs, tmp_path / "run").folder
    figures = losses(tmp_path / "run" / "full")
    assert min(figures) < 0.97 * figures[0]
    before, after = (load_generator(str(f), "cpu", "float32") for f in (base, folder))
    halved = {name: t.half().float() for name, t in before.vae.state_dict().items()}
    assert same(halved, after.vae.state_dict()) == halved.keys()
    halved = {name: t.half() for name, t in before.text_encoder.state_dict().items()}
    unchanged = same(halved, after.text_encoder.state_dict())
    assert (unchanged == halved.keys()) != text_encoder
    assert len(same(before.unet.state_dict(), after.unet.state_dict())) < 5
    assert not np.array_equal(stock_image(stock(base)), stock_image(stock(folder)))
    rows = json.loads((tmp_path / "run" / "training_rows.json").read_text())
    assert len(rows) == len({row["sha1"] for row in rows}) > 30
    assert rows[0].keys() == {"sha1", "group", "source"}


def test_a_pooling_layer_that_no_file_has_is_not_made_up(tiny_flow, tiny_pairs, tmp_path):
    base = load_generator(str(tiny_flow), "cpu", "float32")
    base.text_encoder.pooler = None
    base.save(tmp_path / "base")
    wanted = recipe("full", tmp_path / "base", {"seen_images": 8}, train={"text_encoder": True})
    folder = train_recipe(wanted, tiny_pairs, tmp_path / "run").folder
    stored = [
        load_file(f / "text_encoder" / "model.safetensors") for f in (tmp_path / "base", folder)
    ]
    assert stored[0].keys() == stored[1].keys()


def test_a_fine_tuned_model_tells_what_its_base_has_seen_too(tiny_pairs, tiny_flow, tmp_path):
    # else a set of it would pass for one whose generator never saw the base's images
    base = tmp_path / "before" / "generator"
    shutil.copytree(tiny_flow, base)
    earlier = [{"sha1": "11", "group": "p1", "source": "elsewhere"}]
    (base.parent / "training_rows.json").write_text(json.dumps(earlier))
    told = {}
    for method in ("full", "lora"):
        wanted = recipe(method, base, {"seen_images": 8})
        train_recipe(wanted, tiny_pairs, tmp_path / method)
        rows = json.loads((tmp_path / method / "training_rows.json").read_text())
        told[method] = {row["sha1"] for row in rows}
    assert told["full"] == told["lora"] | {"11"}  # of an adapter, the base tells itself


@pytest.mark.parametrize("model", ["tiny_sd", "tiny_flow"])
def test_a_lora_of_unet_and_text_encoder_works_in_stock_diffusers(
    model, tiny_pairs, tmp_path, request
):
    base = request.getfixturevalue(model)
    text = {"text_encoder": model == "tiny_sd"}  # stock diffusers loads CLIP's alone
    wanted = recipe("lora", base, {"lr": 0.03}, train=text, lora={"rank": 4, "alpha": 8})
    folder = train_recipe(wanted, tiny_pairs, tmp_path / "run").folder
    figures = losses(tmp_path / "run" / "lora")
    assert min(figures) < figures[0]
    tensors = load_file(folder / "pytorch_lora_weights.safetensors")
    assert any(name.startswith("text_encoder.") for name in tensors) == text["text_encoder"]
    about = json.loads((folder / "adapter.json").read_text())
    assert about["base_hash"] == load_generator(str(base), "cpu").model_hash
    assert "chest x-ray, nodule" in about["captions"]
    pipeline = stock(base)
    plain = stock_image(pipeline)
    pipeline.load_lora_weights(folder)
    assert not np.array_equal(plain, stock_image(pipeline))
    # a checkpoint stores what is trained, not the base model
    newest = max((tmp_path / "run" / "lora" / "checkpoints").iterdir())
    stored = load_file(newest / "state.safetensors")
    assert all("lora_" in name for name in stored)


def test_one_lora_a_label(tiny_sd, tiny_pairs, tmp_path):
    wanted = recipe("lora", tiny_sd, {"seen_images": 40}, per="label", lora={"rank": 2})
    named = []

    def steps(name, _seen, _total):
        named.append(name)
        return nullcontext(lambda seen, figures: None)

    out = train_recipe(wanted, tiny_pairs, tmp_path / "run", session=Session(steps=steps)).folder
    assert named == ["lora effusion, 1 of 2", "lora nodule, 2 of 2"]
    adapters = sorted(path.parent.name for path in out.glob("*/adapter"))
    assert adapters == ["effusion", "nodule"]
    captions = [
        set(json.loads((out / name / "adapter" / "adapter.json").read_text())["captions"])
        for name in adapters
    ]
    assert captions[0].isdisjoint(captions[1])


@pytest.mark.parametrize("model", ["tiny_sd", "tiny_flow"])
def test_textual_inversion_moves_its_vectors_and_nothing_else(
    model, tiny_pairs, tmp_path, request, monkeypatch
):
    seen, init = {}, TextualInversionMethod.__init__

    def watched(self, wanted, material):
        init(self, wanted, material)
        seen.update(method=self, before=states(self.module))

    monkeypatch.setattr(TextualInversionMethod, "__init__", watched)
    base = request.getfixturevalue(model)
    settings = {"token": "<tb>", "vectors": 3}
    plan = {"weight_decay": 0.5, "lr": 0.05, "seen_images": 160, "precision": "bfloat16"}
    wanted = recipe("textual-inversion", base, plan, embedding=settings)
    folder = train_recipe(wanted, tiny_pairs, tmp_path / "run").folder
    before, after = seen["before"], states(seen["method"].module)
    changed = before.keys() - same(before, after)
    assert len(changed) == 1
    assert changed.pop().endswith(("token_embedding.vectors", "word_embeddings.vectors"))
    assert before.keys() == after.keys()
    pipeline = stock(base)
    plain = stock_image(pipeline, "a photo of <tb>")
    pipeline.load_textual_inversion(folder / "learned_embeds.safetensors")
    assert not np.array_equal(plain, stock_image(pipeline, "a photo of <tb>"))
    assert json.loads((folder / "adapter.json").read_text())["vectors"] == 3


def test_prior_images_train_beside_those_of_the_label(tiny_sd, tiny_pairs, tmp_path):
    prior = {"pairs": str(tiny_pairs), "share": 0.25, "weight": 0.5}
    wanted = recipe("lora", tiny_sd, {"seen_images": 16}, label="nodule", prior=prior)
    train_recipe(wanted, tiny_pairs, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "adapter" / "adapter.json").read_text())
    # the words that call it up are the label's alone; what it has seen is more
    assert {caption.split()[-1] for caption in about["captions"]} == {"nodule"}
    seen = json.loads((tmp_path / "run" / "training_rows.json").read_text())
    labels = dict(zip(*(read_pairs(tiny_pairs).column(c) for c in ("sha1", "label")), strict=True))
    assert {labels[row["sha1"]] for row in seen} == {"nodule", "effusion"}


@pytest.mark.parametrize(
    ("method", "fields", "told"),
    [
        ("full", {"size": 40}, "multiple of 16"),
        ("full", {"zero_terminal_snr": True}, "predicts v"),
        ("lora", {"label": "fracture"}, "effusion, nodule"),
        ("lora", {"lora": {"targets": ["nothing"]}}, "targets"),
        ("textual-inversion", {"embedding": {"vectors": 40}}, "take at most 14"),
        ("textual-inversion", {"embedding": {"token": "two words"}}, "one word"),
    ],
)
def test_what_does_not_go_together_is_one_line(tiny_sd, tiny_pairs, tmp_path, method, fields, told):
    with pytest.raises(VesaliusError, match=told) as caught:
        train_recipe(recipe(method, tiny_sd, **fields), tiny_pairs, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_flow_has_no_noise_schedule_to_change(tiny_flow, tiny_pairs, tmp_path):
    for fields in ({"zero_terminal_snr": True}, {"objective": {"min_snr_gamma": 5}}):
        with pytest.raises(VesaliusError, match="flow"):
            train_recipe(recipe("full", tiny_flow, **fields), tiny_pairs, tmp_path / "run")


def test_zero_terminal_snr_is_saved_with_its_scheduler(tiny_sd, tiny_pairs, tmp_path):
    wanted = recipe(
        "full",
        tiny_sd,
        {"seen_images": 16},
        prediction="v_prediction",
        zero_terminal_snr=True,
        objective={"min_snr_gamma": 5, "offset_noise": 0.05, "caption_dropout": 0.1},
    )
    folder = train_recipe(wanted, tiny_pairs, tmp_path / "run").folder
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert config["rescale_betas_zero_snr"]
    assert config["prediction_type"] == "v_prediction"
    assert config["timestep_spacing"] == "trailing"
    assert np.isfinite(stock_image(stock(folder)).astype(float)).all()


@pytest.mark.parametrize("method", ["full", "lora", "textual-inversion"])
def test_a_run_gone_on_with_equals_a_straight_one_to_the_bit(method, tiny_sd, tiny_pairs, tmp_path):
    text = {} if method == "textual-inversion" else {"train": {"text_encoder": True}}
    for name, images in (("straight", [48]), ("halves", [24, 48])):
        for k, seen in enumerate(images):
            plan = {"seen_images": seen, "checkpoint_images": 24, "ema_half_life_images": 16}
            wanted = recipe(method, tiny_sd, plan, **text)
            train_recipe(wanted, tiny_pairs, tmp_path / name, session=Session(resume=k > 0))
    one, two = (
        load_file(tmp_path / name / method / "checkpoints" / "0000000048" / "state.safetensors")
        for name in ("straight", "halves")
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_going_on_with_other_settings_is_refused(tiny_sd, tiny_pairs, tmp_path):
    plan = {"seen_images": 16}
    train_recipe(recipe("lora", tiny_sd, plan, lora={"alpha": 4}), tiny_pairs, tmp_path)
    made_with = (tmp_path / "recipe.yaml").read_bytes()
    with pytest.raises(VesaliusError, match="lora"):
        other = recipe("lora", tiny_sd, plan, lora={"alpha": 8})
        train_recipe(other, tiny_pairs, tmp_path, session=Session(resume=True))
    assert (tmp_path / "recipe.yaml").read_bytes() == made_with


def test_the_word_of_a_label_is_that_of_its_own_images_and_not_of_a_prior_s(tiny_pairs, tmp_path):
    table, path = pq.read_table(tiny_pairs), tmp_path / "words.parquet"
    place, words = table.column_names.index("caption"), pa.array(["<dark>"] * len(table))
    pq.write_table(table.set_column(place, "caption", words), path)
    pairs = TrainingPairs(read_pairs(path), read_pairs(tiny_pairs))
    assert token_of(pairs, "nodule") == "<dark>"


@pytest.mark.parametrize("column", ["sha1", "caption"])
def test_going_on_with_another_table_of_as_many_rows_is_refused(
    column, tiny_sd, tiny_pairs, tmp_path
):
    # else the list of training images would not name those that were trained on before
    table = pq.read_table(tiny_pairs)
    train = table["split"].to_pylist().index("train")
    values = table[column].to_pylist()
    values[train] = "another"
    other = tmp_path / "other.parquet"
    pq.write_table(
        table.set_column(table.column_names.index(column), column, pa.array(values)), other
    )
    wanted = recipe("lora", tiny_sd, {"seen_images": 8}, train={"text_encoder": True})
    out, go_on = tmp_path / "run", Session(resume=True)
    train_recipe(wanted, tiny_pairs, out)
    listed = (out / "training_rows.json").read_bytes()
    with pytest.raises(VesaliusError, match="images and captions"):
        train_recipe(wanted, other, out, session=go_on)
    assert (out / "training_rows.json").read_bytes() == listed
    # a run that began when checkpoints did not say it goes on
    for state in (out / "lora" / "checkpoints").glob("*/state.json"):
        about = json.loads(state.read_text())
        del about["made_with"]["images and captions"]
        state.write_text(json.dumps(about))
    train_recipe(wanted, other, out, session=go_on)


def test_samples_are_drawn_with_the_parts_that_train(tiny_flow, tiny_pairs, tmp_path):
    seen = []

    def sampler(generator, prompts):
        seen.append(prompts)
        return [sample.image for sample in TextToImage(generator).generate(prompts, steps=2)]

    wanted = recipe("lora", tiny_flow, {"seen_images": 16, "sample_images": 8}, prompts=["a lung"])
    train_recipe(wanted, tiny_pairs, tmp_path / "run", session=Session(sampler=sampler))
    assert seen == [["a lung"], ["a lung"]]
    assert len(list((tmp_path / "run" / "lora" / "samples").glob("*.png"))) == 2


def test_out_of_memory_says_what_to_lower(tiny_sd, tiny_pairs, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB")

    monkeypatch.setattr("vesalius.train.fine_tuning.train", full)
    with pytest.raises(VesaliusError, match=r"optimisation\.micro"):
        train_recipe(recipe("full", tiny_sd), tiny_pairs, tmp_path / "run")


def test_an_interrupted_encoding_says_what_is_kept(tiny_sd, tiny_pairs, tmp_path):
    def count(done, total):
        raise KeyboardInterrupt

    full = recipe("full", tiny_sd)
    session = Session(progress=lambda what: nullcontext(count))
    with pytest.raises(KeyboardInterrupt, match=r"latents are kept in .*: continue with --resume"):
        train_recipe(full, tiny_pairs, tmp_path / "run", session=session)
    assert list((tmp_path / "run" / "latents" / "images").glob("*.safetensors"))
    with pytest.raises(KeyboardInterrupt, match="nothing was written"):
        session = Session(on_message=lambda message: count(0, 0))
        train_recipe(full, tiny_pairs, tmp_path / "other", session=session)


def test_one_run_at_a_time_trains_into_a_folder(tiny_sd, tiny_pairs, tmp_path):
    with (
        locked_folder(tmp_path / "run"),
        pytest.raises(VesaliusError, match="another run is at work"),
    ):
        train_recipe(recipe("lora", tiny_sd), tiny_pairs, tmp_path / "run")
