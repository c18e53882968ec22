import re
from importlib.resources import files

import pytest
import yaml

from vesalius.config import FullRecipe, load_recipe
from vesalius.errors import VesaliusError


@pytest.mark.parametrize("name", ["mini", "mini-cpu", "mini-cpu-longer"])
def test_bundled_recipes_are_valid(name):
    recipe = load_recipe(name)
    assert recipe.sampler.scheduler["prediction_type"] == "flow_prediction"
    assert "sample_size" not in recipe.denoiser.arguments  # it follows the recipe's size


def test_overrides_are_read_as_yaml_values():
    recipe = load_recipe(
        "mini-cpu", ["denoiser.optimisation.lr=1e-4", "autoencoder.init=some/folder"]
    )
    assert recipe.denoiser.optimisation.lr == 1e-4
    assert recipe.autoencoder.init == "some/folder"


def test_a_label_that_is_a_number_is_its_text():
    assert load_recipe("augment-lora", ["label=2"]).label == "2"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("denoiser.optimisation.batch=0", "denoiser.optimisation.batch"),
        ("denoiser.optimisation.lr=fast", "denoiser.optimisation.lr"),
        ("denoiser.colour=red", "denoiser.colour"),
        (
            "denoiser.optimisation.learning_rate=1",
            "there is no such field: known here: seen_images",
        ),
        ("denoiser.optimisation.warmup=1", "did you mean warmup_images"),
        ("autoencoder.crops=1", "autoencoder.crops: .*did you mean crop"),
        ("sizes=1", "did you mean size"),
        (
            "seen_images=40",
            "did you mean autoencoder.optimisation.seen_images or denoiser.optimisation.seen_images",
        ),
        ("denoiser.optimisation.micro=5", "denoiser.optimisation: batch 32 is not a multiple"),
        ("denoiser.optimisation.loggers=[paper]", "denoiser.optimisation.loggers"),
        ("method=dreambooth", "none of scratch, full, lora, textual-inversion, contrastive"),
        ("denoiser", "key=value"),
        ("size.width=3", "size is a value"),
        ("denoiser.kind=unet", "denoiser.kind: input should be 'UNet2DConditionModel' or 'UViT'"),
    ],
)
def test_errors_name_the_field(override, told):
    with pytest.raises(VesaliusError, match=told):
        load_recipe("mini-cpu", [override])


def test_a_field_without_its_group_is_found_in_it():
    with pytest.raises(VesaliusError, match=r"did you mean optimisation\.seen_images\?"):
        load_recipe("cytodiff", ["seen_images=40"])


def test_unknown_and_broken_recipes_are_refused(tmp_path):
    with pytest.raises(VesaliusError, match="mini"):
        load_recipe("maxi")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "x"}))
    with pytest.raises(VesaliusError, match="size"):
        load_recipe(str(path))
    path.write_text("just text")
    with pytest.raises(VesaliusError, match="mapping"):
        load_recipe(str(path))


def test_an_override_reaches_one_stage_even_where_an_anchor_is_shared(tiny_recipe):
    assert "&" in tiny_recipe.read_text()  # both stages' settings are one anchor
    recipe = load_recipe(str(tiny_recipe), ["denoiser.optimisation.seen_images=999"])
    assert recipe.denoiser.optimisation.seen_images == 999
    assert recipe.autoencoder.optimisation.seen_images == 32


RECIPES = sorted(path.stem for path in (files("vesalius") / "recipes").iterdir())
PAPERS = {
    "eyediff": {"seen_images": 5 * 42_048, "batch": 8, "lr": 5e-5, "weight_decay": 0.01},
    "medisyn": {"seen_images": 15 * 1_260_000, "batch": 128, "lr": 5e-5},
    "textual-inversion": {"seen_images": 100_000, "batch": 1, "lr": 0.005},
    "cytodiff": {"seen_images": 600 * 8, "batch": 8, "lr": 1e-4, "schedule": "cosine"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_commands_at_the_head_of_a_recipe_are_valid(name):
    """They are what a user copies: a wrong override there would be the first thing to fail."""
    text = (files("vesalius") / "recipes" / f"{name}.yaml").read_text()
    head = "".join(line for line in text.splitlines(True) if line.startswith("#"))
    commands = re.split(r"vesalius train ", re.sub(r"\\\n#", " ", head))[1:]
    assert f"vesalius train {name}" in head or "make mini" in head
    for command in commands:
        words = command.split("\n#\n")[0].split()
        overrides = [word for word in words if re.fullmatch(r"[a-z_.]+=\S+", word)]
        assert load_recipe(words[0], overrides).name == words[0]


@pytest.mark.parametrize(("name", "values"), PAPERS.items())
def test_a_recipe_has_its_papers_values(name, values):
    plan = load_recipe(name).optimisation
    assert {field: getattr(plan, field) for field in values} == values


def test_chest_diffusion_is_the_papers_network():
    from vesalius.train.networks import build_denoiser

    denoiser = build_denoiser(load_recipe("chest-diffusion").denoiser)
    assert sum(p.numel() for p in denoiser.parameters()) == 58_437_284


def test_one_average_or_several_or_none():
    fields = {"method": "full", "name": "x", "model": "mini", "size": 32}
    plan = {"seen_images": 8, "batch": 8, "lr": 1, "validate_images": 8, "checkpoint_images": 8}
    for given, kept in ((0, ()), ([], ()), (5, (5,)), ([5, 9], (5, 9))):
        recipe = FullRecipe.model_validate(
            {**fields, "optimisation": {**plan, "ema_half_life_images": given}}
        )
        assert recipe.optimisation.ema_half_life_images == kept


@pytest.mark.parametrize(
    "override", ["size=[1", "size=2020-13-45", "size=" + "[" * 3000, "method=[1]", "size=? [1]"]
)
def test_an_override_that_cannot_be_read_is_one_line(override):
    with pytest.raises(VesaliusError):
        load_recipe("mini-cpu", [override])
