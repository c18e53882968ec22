import pytest
import yaml

from vesalius.config import load_recipe
from vesalius.errors import VesaliusError


@pytest.mark.parametrize("name", ["mini", "mini-cpu"])
def test_bundled_recipes_are_valid(name):
    recipe = load_recipe(name)
    assert recipe.sampler.scheduler["prediction_type"] == "flow_prediction"
    assert recipe.denoiser.arguments["sample_size"] * 8 == recipe.size


def test_overrides_are_read_as_yaml_values():
    recipe = load_recipe(
        "mini-cpu", ["denoiser.optimisation.lr=1e-4", "autoencoder.init=some/folder"]
    )
    assert recipe.denoiser.optimisation.lr == 1e-4
    assert recipe.autoencoder.init == "some/folder"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("denoiser.optimisation.batch=0", "denoiser.optimisation.batch"),
        ("denoiser.optimisation.lr=fast", "denoiser.optimisation.lr"),
        ("denoiser.colour=red", "denoiser.colour"),
        ("denoiser", "key=value"),
        ("size.width=3", "size is a value"),
    ],
)
def test_errors_name_the_field(override, told):
    with pytest.raises(VesaliusError, match=told):
        load_recipe("mini-cpu", [override])


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
