"""Training a decoder alone, with and without a discriminator beside it."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from diffusers import AutoencoderTiny, StableDiffusionPipeline

from vesalius.config import AutoencoderRecipe, load_recipe
from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.pairs.table import read_pairs
from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.discriminator import BETAS, hinge
from vesalius.train.draws import generator
from vesalius.train.loop import open_run, take_step, train
from vesalius.train.methods import autoencoder
from vesalius.train.methods.autoencoder import AutoencoderMethod, tint
from vesalius.train.run import estimate, train_recipe
from vesalius.train.session import Session

PLAN = {
    "seen_images": 24,
    "batch": 4,
    "lr": 3e-3,
    "precision": "float32",
    "validate_images": 8,
    "validation_size": 4,
    "checkpoint_images": 12,
    "ema_half_life_images": 8,
}


@pytest.fixture
def method(tiny_flow, tiny_pairs):
    def build(plan=None, **values):
        values = {
            "encoder": str(tiny_flow),
            "train": "decoder",
            "arguments": {"num_decoder_blocks": [2, 1, 1, 0]},
            "crop": 32,
            "lpips_weight": 0,
            "grey_weight": 0.5,
            "latent_noise": 0.1,
            "discriminator_weight": 1.0,
            "discriminator_start_images": 8,
            "optimisation": PLAN | (plan or {}),
        } | values
        recipe = AutoencoderRecipe.model_validate(values)
        return AutoencoderMethod(recipe, read_pairs(tiny_pairs), 32, Session())

    return build


def tensors(out):
    newest = newest_checkpoint(out / "checkpoints")
    assert newest is not None
    from safetensors.torch import load_file

    return load_file(newest.path / "state.safetensors")


def test_a_run_that_is_stopped_and_gone_on_with_is_equal_to_the_bit(method, tmp_path):
    straight, stopped = method(), method({"seen_images": 12})
    train(straight, straight.recipe.optimisation, tmp_path / "straight")
    train(stopped, stopped.recipe.optimisation, tmp_path / "stopped")
    resumed = method()
    train(resumed, resumed.recipe.optimisation, tmp_path / "stopped", Session(resume=True))
    one, other = tensors(tmp_path / "straight"), tensors(tmp_path / "stopped")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for start in ("model.discriminator.", "optimiser.discriminator.", "average.8.decoder."):
        assert any(name.startswith(start) for name in one)
    assert not any("encoder." in name.replace("decoder.", "") for name in one)


def test_the_last_averaged_weights_come_out_and_the_encoder_is_the_models(
    method, tiny_flow, tmp_path
):
    trained = method()
    best = train(trained, trained.recipe.optimisation, tmp_path).best
    result, base = AutoencoderTiny.from_pretrained(best), load_generator(tiny_flow, "cpu").vae
    assert result.config.num_decoder_blocks == [2, 1, 1, 0]
    for name, value in base.encoder.state_dict().items():
        assert torch.equal(value.float(), result.encoder.state_dict()[name])
    averaged = tensors(tmp_path)
    for name, value in result.decoder.state_dict().items():
        assert torch.equal(value, averaged[f"average.8.decoder.{name}"])
        assert not torch.equal(value, averaged[f"model.decoder.{name}"])


def test_each_network_gets_its_own_gradient_alone(method, tmp_path):
    """As computed the long way: two losses, each with the other network frozen."""
    at_work = method(discriminator_weight=0.7, latent_noise=0, grey_weight=0)
    at_work.before_step(8)
    rows = torch.arange(4)
    chosen = [at_work.rows[k] for k in rows]
    symmetric = [at_work.symmetric[row] for row in chosen]
    x = autoencoder.signed(at_work.crops.random(chosen, symmetric, generator(1)))
    judge, vae = at_work.discriminator, at_work.autoencoder
    y = vae.decode(vae.encode(x).latents).sample
    at_work.loss(rows, generator(1))["loss"].backward()
    got = {name: p.grad.clone() for name, p in at_work.module.named_parameters()}
    at_work.module.zero_grad()

    hinge(judge(x), judge(y.detach())).backward()
    expected = {f"discriminator.{n}": p.grad.clone() for n, p in judge.named_parameters()}
    judge.requires_grad_(False)
    error, fooled = (y - x).abs().mean(), hinge(judge(y), judge(x))
    norms = [torch.autograd.grad(one, y, retain_graph=True)[0].norm() for one in (error, fooled)]
    weight = 0.7 * norms[0] / norms[1]
    (error + weight * fooled).backward()
    expected |= {f"decoder.{n}": p.grad for n, p in vae.decoder.named_parameters()}
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(got[name], value, rtol=1e-3, atol=1e-6), name


def test_before_its_start_the_discriminator_learns_and_does_not_pull(method, tmp_path):
    early, without = method(), method(discriminator_weight=0)
    runs = [
        open_run(one, one.recipe.optimisation, tmp_path / name, Session())
        for name, one in (("early", early), ("without", without))
    ]
    assert [group["betas"] for group in runs[0].optimiser.param_groups] == [(0.9, 0.99), BETAS]
    before = [p.clone() for p in early.discriminator.parameters()]
    told = [take_step(run) for run in runs]
    assert "adversarial" not in told[0]
    moved = zip(before, early.discriminator.parameters(), strict=True)
    assert not any(torch.equal(old, new) for old, new in moved)
    for run in runs:
        run.state.seen_images = 8
    assert "adversarial" in take_step(runs[0])


def test_noise_is_on_about_half_of_the_latents(method):
    noisy = method(latent_noise=0.5)
    images = torch.rand(64, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        plain, other = (noisy._reconstruct(images, draw) for draw in (None, generator(1)))
    changed = (plain - other).abs().flatten(1).amax(1) > 1e-5
    assert 16 < changed.sum() < 48


def test_a_tint_is_told_where_there_is_no_colour_alone():
    grey = torch.full((1, 3, 4, 4), 0.25)
    colour = grey.clone()
    colour[0, 0, 0, 0] = 0.5
    made = torch.tensor([0.3, 0.0, -0.3]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert tint(torch.cat([grey, colour]), made).tolist() == pytest.approx([0.2, 0.0])
    assert tint(grey, grey + 0.1).item() == pytest.approx(0, abs=1e-7)


def test_without_a_held_out_row_it_is_validated_on_training_rows(method, tiny_pairs, tmp_path):
    table = pq.read_table(tiny_pairs)
    place, path = table.column_names.index("split"), tmp_path / "pairs.parquet"
    pq.write_table(table.set_column(place, "split", pa.array(["train"] * len(table))), path)
    one = AutoencoderMethod(method({"seen_images": 8}).recipe, read_pairs(path), 32, Session())
    train(one, one.recipe.optimisation, tmp_path / "run")
    assert len(one.validation_rows) == PLAN["validation_size"]


@pytest.mark.parametrize("train_what", ["all", "decoder"])
def test_bfloat16_and_the_whole_autoencoder_train_too(method, tmp_path, train_what):
    values = {} if train_what == "decoder" else {"train": "all", "encoder": None}
    values |= {"latent_noise": 0.1 if train_what == "decoder" else 0}
    at_work = method({"precision": "bfloat16"}, **values)
    train(at_work, at_work.recipe.optimisation, tmp_path)
    told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(name in told[-2] for name in ("adversarial", "discriminator", "balance", "tint"))
    AutoencoderTiny.from_pretrained(tmp_path / "best")


def test_a_generator_keeps_the_scale_of_the_latents_that_it_took(
    tiny_flow, tiny_recipe, tiny_pairs, tmp_path
):
    base = tmp_path / "base"
    shutil.copytree(tiny_flow, base)
    config = json.loads((base / "vae" / "config.json").read_text()) | {"scaling_factor": 0.7}
    (base / "vae" / "config.json").write_text(json.dumps(config))
    values = yaml.safe_load(tiny_recipe.read_text())
    values["autoencoder"] |= {
        "encoder": str(base),
        "train": "decoder",
        "arguments": {"num_decoder_blocks": [1, 2, 0, 0]},
        "discriminator_weight": 1.0,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    recipe = load_recipe(str(path))
    assert "AutoencoderTiny's decoder" in estimate(recipe, tiny_pairs).trains
    made = train_recipe(recipe, tiny_pairs, tmp_path / "run").folder
    pipeline = StableDiffusionPipeline.from_pretrained(made, safety_checker=None)
    assert pipeline.vae.config.scaling_factor == 0.7
    assert pipeline.vae.config.num_decoder_blocks == [1, 2, 0, 0]
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("nodule", num_inference_steps=1, height=32, width=32).images[0]
    assert image.size == (32, 32)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"encoder": "mini"}, "train must be decoder"),
        ({"encoder": "mini", "init": "x", "train": "decoder"}, "give one"),
        ({"train": "decoder"}, "give encoder or init"),
        ({"latent_noise": 0.1}, "train must be decoder"),
        ({"kind": "AutoencoderKL", "init": "x", "train": "decoder"}, "set kind"),
    ],
)
def test_fields_that_do_not_go_together_are_told(tiny_recipe, tmp_path, fields, told):
    values = yaml.safe_load(tiny_recipe.read_text())
    values["autoencoder"] |= fields
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(VesaliusError, match=told):
        load_recipe(str(tmp_path / "recipe.yaml"))
