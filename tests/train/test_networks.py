"""A denoiser that starts from another's weights does what that one did until it is trained."""

import pytest
import torch

from vesalius.config import load_recipe
from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.train.networks import build_denoiser, take_over
from vesalius.train.run import train_recipe


def denoiser_of(tiny_recipe, tiny_flow, **more):
    """The recipe's denoiser as large as `tiny_flow`'s, with other arguments."""
    config = load_generator(tiny_flow, "cpu", "float32").unet.config
    known = {k: v for k, v in config.items() if not k.startswith("_")}
    recipe = load_recipe(str(tiny_recipe)).denoiser
    return build_denoiser(recipe.model_copy(update={"arguments": known | more}))


def test_a_summary_of_the_caption_starts_without_effect(tiny_recipe, tiny_flow):
    old = load_generator(tiny_flow, "cpu", "float32").unet
    pooled = {"addition_embed_type": "text", "addition_embed_type_num_heads": 2}
    new = denoiser_of(tiny_recipe, tiny_flow, **pooled)
    assert take_over(new, str(tiny_flow)) == sum(p.numel() for p in old.parameters())
    inputs = torch.randn(2, 4, 4, 4), torch.tensor([3.0, 700.0]), torch.randn(2, 16, 8)
    with torch.no_grad():
        torch.testing.assert_close(new(*inputs).sample, old(*inputs).sample)
    new(*inputs).sample.square().mean().backward()
    assert new.add_embedding.norm2.weight.grad.abs().sum() > 0  # and can learn to have one


def test_a_summary_of_the_caption_can_be_trained_on_in_bfloat16(
    tiny_recipe, tiny_flow, tiny_pairs, tmp_path
):
    """A LoRA holds the rest of the model in bfloat16, the text states come in float32."""
    base = load_generator(tiny_flow, "cpu", "float32")
    pooled = {"addition_embed_type": "text", "addition_embed_type_num_heads": 2}
    base.unet = denoiser_of(tiny_recipe, tiny_flow, **pooled)
    folder = base.save(tmp_path / "base")
    plan = [
        "compile=false",
        "seen_images=8",
        "batch=4",
        "validate_images=8",
        "validation_size=4",
        "warmup_images=0",
    ]
    overrides = [
        f"optimisation.{text}" for text in [*plan, "checkpoint_images=8", "sample_images=0"]
    ]
    for name, more in (("cytodiff", ["per=set", "lora.targets=all"]), ("eyediff", [])):
        recipe = load_recipe(name, [*overrides, *more, "size=32", f"model={folder}"])
        assert recipe.optimisation.precision == "bfloat16"
        train_recipe(recipe, tiny_pairs, tmp_path / name)


def test_a_model_of_which_nothing_fits_is_refused(tiny_recipe, tiny_flow):
    from torch import nn

    with pytest.raises(VesaliusError, match="no weight"):
        take_over(nn.Linear(3, 3), str(tiny_flow))


@pytest.mark.slow
@pytest.mark.ci
def test_a_recipe_starts_where_another_run_ended(tiny_recipe, tiny_pairs, tmp_path):
    first = train_recipe(load_recipe(str(tiny_recipe)), tiny_pairs, tmp_path / "first").folder
    more = [
        f"denoiser.init={first}",
        f"autoencoder={first}",
        "denoiser.optimisation.lr=1e-12",
        "denoiser.arguments.addition_embed_type=text",
        "denoiser.arguments.addition_embed_type_num_heads=2",
    ]
    recipe = load_recipe(str(tiny_recipe), more)
    second = train_recipe(recipe, tiny_pairs, tmp_path / "second").folder
    old, new = (load_generator(f, "cpu", "float32").unet.state_dict() for f in (first, second))
    assert new.keys() > old.keys()
    for name, value in old.items():
        torch.testing.assert_close(new[name], value, rtol=1e-2, atol=1e-3)
