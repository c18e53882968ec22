"""Costs are the published ones, to the last multiplication, and are had without any weights."""

import json
import shutil
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vesalius.errors import VesaliusError
from vesalius.models import cost
from vesalius.models.generator import load_generator, load_skeleton


@cache
def stable_diffusion(pixels: int) -> cost.Cost:
    return cost.cost_of(cost.stable_diffusion(pixels))


def test_chest_diffusion_costs_what_its_paper_says():
    found = cost.cost_of(cost.chest_diffusion())
    assert found.parameters["unet"] == 58_437_284
    assert found.step.by_layers == 29_729_454_080  # 4 images: "118.918 GFLOPs"
    assert round(found.step.products / 1e9, 2) == 34.27
    assert (found.size, found.tokens) == ((256, 256), 256)


@pytest.mark.parametrize(
    ("pixels", "layers", "products"), [(256, 85.78, 90.05), (512, 338.61, 401.64)]
)
def test_stable_diffusion_costs_what_is_known(pixels, layers, products):
    found = stable_diffusion(pixels)
    assert round(found.step.linear_and_conv / 1e9, 2) == layers
    assert round(found.step.products / 1e9, 2) == products
    assert found.parameters == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}


def test_stable_diffusion_2_has_the_parameters_of_its_files():
    found = cost.cost_of(cost.stable_diffusion_2())
    assert found.parameters == {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}
    assert cost.known_shapes("lab/stable-diffusion-2-basement") is None


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 8, bias=False)

    def forward(self, x):
        x = self.linear(self.norm(self.conv(x).flatten(2).transpose(1, 2)))  # (N, 16, 8)
        return F.scaled_dot_product_attention(x, x, x)


def test_macs_are_those_worked_out_by_hand():
    expected = cost.Macs(
        linear_and_conv=3 * (6 * 16 * 2 * 9 + 16 * 6 * 8),
        layer_norm=3 * 4 * 16 * 6,
        attention=3 * 2 * 16 * 16 * 8,
    )
    for device in ("cpu", "meta"):
        model = Small().to(device)
        assert cost.count_macs(model, torch.empty(3, 4, 4, 4, device=device)) == expected
        assert not any(part._forward_hooks for part in model.modules())


def test_saved_activations_are_those_worked_out_by_hand():
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 2)).to("meta")
    inputs = torch.empty(5, 4, device="meta")
    # of the first layer its input, of SiLU its input, of the last layer its input
    assert cost.saved_bytes(model, inputs) == 4 * 5 * (4 + 8 + 8)
    assert cost.saved_bytes(model[0], inputs) == 4 * 5 * 4


def test_saved_activations_grow_with_the_image_and_not_with_attentions_matrices():
    small, large = stable_diffusion(256), stable_diffusion(512)
    assert 3.5 < large.saved_bytes / small.saved_bytes < 4.2
    # Attention's matrices would be 3 GB more; the fixed part is 20 bytes for each of 860 M weights.
    assert 17e9 < large.training_bytes(0) < 17.5e9
    assert 0.7e9 < large.saved_bytes < 1.2e9


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_a_folder_costs_the_same_loaded_and_not(folder, request, monkeypatch):
    path = request.getfixturevalue(folder)
    loaded = cost.cost_of(load_generator(path, "cpu", "float32"))

    def read(*_, **__):
        raise AssertionError("weights were read")

    monkeypatch.setattr("safetensors.torch.load_file", read)
    skeleton = load_skeleton(path)
    assert all(weight.is_meta for weight in skeleton.unet.parameters())
    found = cost.cost_of(skeleton)
    assert found.step == loaded.step
    assert found.decoding.linear_and_conv > 0
    assert found.parameters["unet"] == loaded.parameters["unet"]
    assert found.name == path.name


def test_asking_for_the_cost_leaves_a_generator_as_it_was(tiny_sd):
    generator = load_generator(tiny_sd, "cpu", "float32")
    before = {name: weight.clone() for name, weight in generator.unet.state_dict().items()}
    cost.cost_of(generator)
    assert all(torch.equal(w, before[name]) for name, w in generator.unet.state_dict().items())
    assert not generator.unet.training


def test_the_table_shows_models_beside_stable_diffusion(run_cli, tiny_flow):
    code, out, _ = run_cli("info", "--cost", tiny_flow)
    assert code == 0
    for expected in ("tiny-flow", "Chest-Diffusion", "SD 1.x, 512 px", "58.4", "401.64", "859.5"):
        assert expected in out, expected
    widths = {len(line) for line in out.split("\n\n")[0].splitlines()}
    assert len(widths) == 1


def test_a_model_that_is_not_there_is_an_error(run_cli):
    assert run_cli("info", "--cost", "nonsense")[0] == 2
    code, _, err = run_cli("info", "mini")
    assert (code, err) == (2, "error: what should be said of mini? add --cost or --get\n")


def test_a_configuration_that_builds_nothing_is_an_error(tiny_flow, tmp_path):
    folder = shutil.copytree(tiny_flow, tmp_path / "model")
    config = folder / "unet/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": [8]}))
    with pytest.raises(VesaliusError, match=r"cannot build .*unet"):
        load_skeleton(folder)
