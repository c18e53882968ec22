"""What a dry run says."""

import pytest
import yaml

from vesalius.config import load_recipe
from vesalius.core.words import about_on
from vesalius.errors import VesaliusError
from vesalius.train.estimate import Estimate
from vesalius.train.run import estimate, train_recipe

OPTIMISATION = ["optimisation.batch=4", "optimisation.seen_images=400", "size=32"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("eyediff", "U-Net, "),
        ("medisyn", "U-Net and text encoder, "),
        ("cytodiff", "LoRA of rank 16 on U-Net and text encoder, "),
        ("textual-inversion", "4 vectors, 32 parameters"),
    ],
)
def test_a_dry_run_tells_what_trains_and_for_how_long(name, told, tiny_sd, tiny_pairs):
    before = sorted(tiny_pairs.parent.iterdir())
    own = ["embedding.vectors=4"] * (name == "textual-inversion")
    lines = estimate(load_recipe(name, OPTIMISATION + own), tiny_pairs, str(tiny_sd)).lines()
    assert lines["trains"].startswith(told)
    assert "100 steps of 4" in lines["length"]
    assert lines["time"].startswith("about ")
    assert (
        "- diabetic_retinopathy: 15 images"
        in Estimate(1, 0, 1, "x", {}, labels={"diabetic_retinopathy": "15 images"}).text()
    )
    assert lines.keys() >= {"pairs", "base", "cache", "memory"}
    assert ("each of 2 labels" in lines["length"]) == (name in ("cytodiff", "textual-inversion"))
    assert sorted(tiny_pairs.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("count", "text"),
    [(1.23e9, "1.2 GB"), (13e6, "13 MB"), (4.24e6, "4.2 MB"), (24_576, "25 kB"), (96, "1 kB")],
)
def test_nothing_is_said_to_take_no_room(count, text):
    estimate = Estimate(1, 0, 1, "x", {}, results=["adapter"], result_bytes=count)
    assert f"adapter, {text}" in estimate.text()


@pytest.mark.parametrize(
    ("recipe", "overrides", "error"),
    [
        (
            "textual-inversion",
            [],
            "64 do not fit the text encoder's window of 16 tokens: take at most 14",
        ),
        ("textual-inversion", ["embedding.vectors=1", "embedding.initial=' '"], "initial"),
        ("textual-inversion", ["embedding.vectors=1", "per=label", "label=none such"], "none such"),
        ("cytodiff", ["lora.targets=[to_nothing]"], "to_nothing"),
        ("cytodiff", ["optimisation.optimiser=muon"], "muon trains"),
        ("cytodiff", ["size=33"], "size 33 is not a multiple"),
        ("eyediff", ["optimisation.loggers=[mlflow]"], "mlflow"),
    ],
)
def test_what_can_be_known_is_known_before_an_image_is_encoded(
    recipe, overrides, error, tiny_sd, tiny_pairs, tmp_path, monkeypatch
):
    monkeypatch.setattr("vesalius.train.fine_tuning.cached_latents", None)  # never called
    monkeypatch.setattr("vesalius.train.fine_tuning.load_generator", None)  # not even loaded
    settings = load_recipe(recipe, [*OPTIMISATION, *overrides])
    for run in (
        lambda: estimate(settings, tiny_pairs, str(tiny_sd)),
        lambda: train_recipe(settings, tiny_pairs, tmp_path / "run", str(tiny_sd)),
    ):
        with pytest.raises(VesaliusError, match=error):
            run()
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_base_model_that_is_not_here_is_not_downloaded(tiny_pairs):
    lines = estimate(load_recipe("eyediff"), tiny_pairs, "nobody/nothing-of-the-kind").lines()
    assert "unknown" in lines["trains"]


def test_a_recipe_from_scratch_is_estimated_without_the_model_of_its_autoencoder(
    tiny_pairs, tiny_recipe
):
    encoder = load_recipe(str(tiny_recipe)).text_encoder.source
    recipe = load_recipe("chest-diffusion", [f"text_encoder.source={encoder}"])
    lines = estimate(recipe, tiny_pairs, "nobody/nothing-of-the-kind").lines()
    assert "hf download nobody/nothing-of-the-kind" in lines["trains"]
    assert "51,200,000 images" in lines["denoiser"]


def test_a_text_encoder_that_is_to_be_made_first_is_missed_before_anything_else(
    tiny_pairs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("chest-diffusion")
    for run in (
        lambda: estimate(recipe, tiny_pairs, "mini"),
        lambda: train_recipe(recipe, tiny_pairs, tmp_path / "run", "mini"),
    ):
        with pytest.raises(VesaliusError, match="vesalius train chest-diffusion-text") as error:
            run()
        assert "--out runs/chest-text`" in str(error.value)


def test_months_on_a_cpu_are_said_to_be_meant_for_a_gpu():
    assert about_on(31 * 86400, "cpu") == "about 31 days on cpu (meant for a GPU)"
    assert about_on(29 * 86400, "cpu") == "about 29 days on cpu"
    assert about_on(31 * 86400, "cuda") == "about 31 days on cuda"


def test_the_command_takes_a_model_and_tells_pairs_without_captions(
    run_cli, tiny_sd, tiny_pairs, tmp_path
):
    command = ["train", "eyediff", "--out", tmp_path / "x", "--model", tiny_sd, "--device", "cpu"]
    code, out, _ = run_cli(*command, *OPTIMISATION, "--pairs", tiny_pairs, "--dry-run")
    assert (code, "100 steps of 4" in out) == (0, True)
    silent = _without_captions(tiny_pairs, tmp_path / "silent.parquet")
    for more in ([], ["--dry-run"]):
        code, _, err = run_cli(*command, *OPTIMISATION, "--pairs", silent, *more)
        assert (code, err.count("\n")) == (2, 1)
        assert "no captions" in err
    assert not (tmp_path / "x").exists()


def test_a_recipe_that_starts_from_no_model_takes_none(tiny_recipe, tiny_pairs):
    with pytest.raises(VesaliusError, match="--model"):
        estimate(load_recipe(str(tiny_recipe)), tiny_pairs, "mini")


def test_a_frozen_autoencoder_is_taken_from_a_model(tiny_recipe, tiny_pairs, tiny_sd, tmp_path):
    from vesalius.models.generator import load_generator

    values = yaml.safe_load(tiny_recipe.read_text()) | {"autoencoder": "mini"}
    values["denoiser"] |= {"kind": "UViT", "arguments": {"sample_size": 4, "tokens": 12}}
    values["denoiser"]["arguments"] |= {"cross_attention_dim": 8, "width": 16, "layers": 3}
    values["denoiser"]["arguments"] |= {"heads": 2}
    values["sampler"]["scheduler"] = {
        "class": "DPMSolverMultistepScheduler",
        "prediction_type": "epsilon",
        "beta_schedule": "scaled_linear",
    }
    path = tmp_path / "uvit.yaml"
    path.write_text(yaml.safe_dump(values))
    recipe = load_recipe(str(path))
    folder = train_recipe(recipe, tiny_pairs, tmp_path / "run", str(tiny_sd)).folder
    made, base = (load_generator(str(f), "cpu", "float32") for f in (folder, tiny_sd))
    assert type(made.unet).__name__ == "UViT"
    assert made.vae.config.scaling_factor == base.vae.config.scaling_factor
    halved = {name: t.half().float() for name, t in base.vae.state_dict().items()}
    assert all((made.vae.state_dict()[name] == t).all() for name, t in halved.items())


def _without_captions(pairs, path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pairs)
    at = table.schema.get_field_index("caption")
    pq.write_table(table.set_column(at, "caption", pa.array([""] * len(table))), path)
    return path
