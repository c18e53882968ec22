"""Every recipe has a price before there is a table; what would have to be guessed is left out."""

import json
from dataclasses import replace

import pytest

from vesalius.config import bundled_recipes, load_recipe
from vesalius.errors import VesaliusError
from vesalius.models.cost import known_shapes
from vesalius.models.locate import local_folder
from vesalius.train import estimate
from vesalius.train.estimate import TimedSteps
from vesalius.train.prices import SPEED, price_of

SECONDS = {side: side / 100 for side in (16, 32, 64)}


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(TimedSteps, "seconds", lambda self, device: (SECONDS, "by heart"))


def priced(name, *overrides):
    return price_of(load_recipe(name, list(overrides)), "cpu")


def test_chest_diffusion_is_what_its_paper_says(untimed, run_cli):
    price = priced("chest-diffusion")
    assert price.parameters == {"unet": 58_437_284, "vae": 83_653_863, "text_encoder": 108_891_648}
    assert price.step and price.step.by_layers == 29_729_454_080
    assert (price.size, price.tokens, price.images) == ((256, 256), 256, 256)
    assert price.images_per_second == pytest.approx(1 / SECONDS[32])
    code, out, err = run_cli("info", "--cost", "chest-diffusion")
    assert code == 0 and "timing: a few steps of chest-diffusion" in err
    table = {line[:34].strip(): line[34:].split() for line in out.splitlines()}
    assert table["and LayerNorm, as thop counts"][0] == "29.729454"
    assert table["the same for four images"][0] == "118.918"
    assert table["linear, conv and attention"] == ["34.27", "90.05", "401.64"]  # SD 1.x beside it
    assert table["images a second on this machine"] == ["3.1", "3.1", "1.6"]
    assert "Chest-Diffusion" not in out  # its own column is enough


def test_prices_are_for_programs_too(untimed, run_cli):
    code, out, _ = run_cli("info", "--cost", "chest-diffusion", "mini", "--json")
    recipe, model, small, large = json.loads(out)
    assert code == 0
    assert recipe["step"]["linear_and_conv"] + recipe["step"]["layer_norm"] == 29_729_454_080
    assert recipe["images_per_second"] == pytest.approx(1 / SECONDS[32])
    assert model["name"] == "mini" and model["images_per_second"] is None
    assert [one["size"] for one in (small, large)] == [[256, 256], [512, 512]]
    code, out, _ = run_cli("info", "--json")
    assert code == 0 and json.loads(out)["versions"]["vesalius"]


@pytest.mark.parametrize(
    ("name", "trained", "denoiser"),
    [
        ("eyediff", 859_520_964, 859_520_964),
        ("medisyn", 859_520_964 + 123_060_480, 859_520_964),
        ("textual-inversion", 64 * 1024, 865_910_724),
        ("cytodiff", 6_334_464, 865_910_724),
        ("mini", 16_935_812, 16_935_812),
    ],
)
def test_a_base_model_that_is_not_here_is_known_by_its_shapes(untimed, name, trained, denoiser):
    price = priced(name)
    assert price.parameters["unet"] == denoiser
    assert price.trained_parameters == trained
    assert price.images_per_second and price.memory_bytes > price.rest_bytes


def test_every_bundled_recipe_has_a_price_or_a_reason(untimed):
    for name in bundled_recipes():
        try:
            price = priced(name)
        except VesaliusError as error:
            assert name == "mini-cpu-longer" and "runs/mini/mini-cpu/generator" in str(error)
            continue
        known = (*price.parameters.values(), price.images_per_second)
        assert all(x is not None for x in known) or price.left_out, name
    assert SPEED in priced("dp-lora").left_out
    text = priced("chest-diffusion-text")
    assert text.parameters["text_encoder"] == 108_891_648 and text.step is None


def test_a_text_encoder_that_is_pruned_or_not_here_is_left_out(untimed):
    here = f"text_encoder.source={local_folder('mini')}/text_encoder"
    assert priced("mini", here).left_out["text encoder"] == "its vocabulary depends on the captions"
    absent = priced("mini", "text_encoder.source=lab/unknown-model").left_out["text encoder"]
    assert absent == "lab/unknown-model is not on this machine"


def test_a_machine_that_is_too_small_says_so(monkeypatch, run_cli):
    monkeypatch.setattr(estimate, "_free_bytes", lambda: 1e6)
    code, out, _ = run_cli("info", "--cost", "chest-diffusion")
    assert code == 0
    assert "left out of chest-diffusion; SD 1.x, 256 px; SD 1.x, 512 px: images a second" in out


def test_a_recipe_that_is_misspelt_is_told_with_the_nearest(run_cli):
    code, _, err = run_cli("info", "--cost", "chest-difusion")
    assert (code, err) == (
        2,
        "error: there is no recipe or model 'chest-difusion': did you mean chest-diffusion?\n",
    )


def test_a_model_whose_shapes_nobody_knows_is_told():
    recipe = load_recipe("eyediff").model_copy(update={"model": "lab/unknown-model"})
    with pytest.raises(VesaliusError, match=r"hf download lab/unknown-model"):
        price_of(recipe, "cpu")


def test_what_a_step_takes_besides_its_products_is_shared_by_its_images(monkeypatch, tiny_flow):
    """Two sizes are timed by one image: a step of 0.5 s, and 1 s for the products of side 16."""
    from vesalius.models.cost import count_denoiser
    from vesalius.models.generator import load_skeleton

    unet = load_skeleton(tiny_flow).unet
    plan = load_recipe("mini").denoiser.optimisation.model_copy(update={"batch": 10})
    steps = TimedSteps(unet, 8, plan, [(64, 1)])
    macs = {side: count_denoiser(unet, (side, side), 8)[0].products for side in (8, 16, 32, 64)}
    monkeypatch.setattr(estimate, "QUICK_MACS", 3 * macs[16])
    monkeypatch.setattr(estimate, "ONE_IMAGE_MACS", 3 * macs[16])
    took = lambda self, side, images, device: 0.5 + macs[side] / macs[16]  # noqa: E731
    monkeypatch.setattr(TimedSteps, "_seconds", took)
    each, how = steps.seconds("cpu")
    assert each[64] == pytest.approx(0.05 + macs[64] / macs[16])
    assert how.startswith("by its products")
    assert all(weight.is_meta for weight in steps.unet.parameters())
    assert replace(steps).seconds("cpu")[0] == pytest.approx(each)  # and again


def test_one_image_of_stable_diffusion_at_256_px_is_timed_itself():
    """By latents of 8 and 16 cells alone, its step came out 1.6 times as long as it was."""
    base = known_shapes("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert base is not None
    plan = load_recipe("eyediff").optimisation
    for pixels in (256, 512):
        assert TimedSteps(base.unet, 77, plan, [(pixels // 8, 1)])._quick_side(pixels // 8) == 32
