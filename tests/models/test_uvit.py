"""The U-ViT is the paper's, trains and samples as a U-Net does, and survives saving."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vesalius.errors import VesaliusError
from vesalius.models.folder import check_folder
from vesalius.models.generator import Generator, load_generator
from vesalius.models.uvit import UViT
from vesalius.sample.generate import TextToImage

TINY = {
    "sample_size": 4,
    "cross_attention_dim": 8,
    "tokens": 16,
    "width": 16,
    "layers": 5,
    "heads": 2,
}


@pytest.fixture
def model() -> UViT:
    torch.manual_seed(0)
    return UViT(**TINY)


def inputs(text: int = 16, height: int = 4, width: int = 4):
    draw = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, height, width, generator=draw)
    return sample, torch.tensor([1.0, 900.0]), torch.randn(2, text, 8, generator=draw)


def run(model, *arguments):
    return model(*arguments, return_dict=False)[0]


def test_the_defaults_are_chest_diffusions_size():
    with torch.device("meta"):
        assert sum(weight.numel() for weight in UViT().parameters()) == 58_437_284


def written_out(w, sample, times, text, heads=2, half=2):
    """The paper's forward pass, one image, step by step from the state dict `w`."""

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def block(x, name):
        q, k, v = linear(norm(x, f"{name}.norm1"), f"{name}.qkv").chunk(3, dim=-1)
        outputs = [
            torch.softmax(a @ b.T / a.shape[1] ** 0.5, dim=-1) @ c
            for a, b, c in zip(*(part.chunk(heads, dim=-1) for part in (q, k, v)), strict=True)
        ]
        x = x + linear(torch.cat(outputs, dim=-1), f"{name}.proj")
        hidden = F.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.fc1"))
        return x + linear(hidden, f"{name}.fc2")

    width = w["norm.weight"].shape[0]
    angles = times * torch.exp(-np.log(10000) * torch.arange(width // 2) / (width // 2))
    tokens = [torch.cat([angles.cos(), angles.sin()])]
    tokens += list(linear(text, "context_embed"))
    kernel = w["patch_embed.weight"]  # (D, C, p, p)
    corners = [(y, x) for y in range(0, 4, 2) for x in range(0, 4, 2)]
    tokens += [
        (kernel * sample[:, y : y + 2, x : x + 2]).sum((1, 2, 3)) + w["patch_embed.bias"]
        for y, x in corners
    ]
    x = torch.stack(tokens) + w["pos_embed"][0]
    skips = []
    for k in range(half):
        x = block(x, f"in_blocks.{k}")
        skips.append(x)
    x = block(x, "mid_block")
    for k in range(half):
        joined = torch.cat([x, skips[half - 1 - k]], dim=-1)
        x = block(linear(joined, f"out_blocks.{k}.skip_linear"), f"out_blocks.{k}")
    x = linear(norm(x, "norm"), "decoder_pred")[-len(corners) :]
    image = torch.zeros(4, 4, 4)
    for (row, column), values in zip(corners, x, strict=True):
        image[:, row : row + 2, column : column + 2] = values.view(2, 2, 4).permute(2, 0, 1)
    return F.conv2d(image, w["final_layer.weight"], w["final_layer.bias"], padding=1)


def test_it_computes_what_the_paper_says(model):
    for weight in model.parameters():  # biases and norms that do something, too
        torch.nn.init.normal_(weight, std=0.3)
    sample, times, text = inputs()
    expected = [written_out(model.state_dict(), *each) for each in zip(*inputs(), strict=True)]
    torch.testing.assert_close(run(model, sample, times, text), torch.stack(expected))


def test_initial_weights_are_the_papers(model):
    big = UViT(**(TINY | {"width": 128}))
    for name in ("pos_embed", "mid_block.fc1.weight", "decoder_pred.weight"):
        weight = big.get_parameter(name)
        assert 0.016 < weight.std() < 0.021, name
    assert big.get_parameter("mid_block.fc1.bias").abs().max() == 0
    assert run(model, *inputs()).abs().max() > 0


def test_one_time_for_all_images_is_each_images_time(model):
    sample, _, text = inputs()
    expected = run(model, sample, torch.tensor([7.0, 7.0]), text)
    for time in (7, 7.0, torch.tensor(7)):
        assert torch.equal(run(model, sample, time, text), expected)
    assert torch.equal(model(sample, 7, text).sample, expected)


def test_fewer_text_states_and_other_sizes_are_taken_and_more_text_is_refused(model):
    assert run(model, *inputs(text=9)).shape == (2, 4, 4, 4)
    assert run(model, *inputs(height=8, width=6)).shape == (2, 4, 8, 6)
    with pytest.raises(VesaliusError, match="17 text states are given and this U-ViT takes 16"):
        run(model, *inputs(text=17))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": 4}, "layers=4 must be odd"),
        ({"heads": 3}, "width=16 must be even and a multiple of heads=3"),
        ({"sample_size": 5}, "sample_size 5 is no multiple of patch_size=2"),
    ],
)
def test_sizes_that_do_not_fit_together_are_named(wrong, message):
    with pytest.raises(VesaliusError, match=message):
        UViT(**(TINY | wrong))


def gradients(model):
    run(model, *inputs()).square().sum().backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def test_gradient_checkpointing_changes_memory_and_no_gradient(model):
    plain = gradients(model)
    assert all(gradient is not None for gradient in plain.values())
    model.zero_grad()
    model.enable_gradient_checkpointing()
    for name, gradient in gradients(model).items():
        assert torch.equal(gradient, plain[name]), name


def test_it_compiles_without_a_break_and_runs_in_bfloat16(model):
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(run(compiled, *inputs()), run(model, *inputs()))
    exact = run(model, *inputs())
    with torch.autocast("cpu", torch.bfloat16):
        assert (run(model, *inputs()) - exact).abs().max() < 0.02
    sample, times, text = inputs()
    half = run(model.bfloat16(), sample.bfloat16(), times, text.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half - exact).abs().max() < 0.02


@pytest.fixture
def saved(tiny_flow, model, tmp_path) -> tuple[Generator, Path]:
    generator = load_generator(tiny_flow, "cpu", "float32")
    generator.unet = model.eval()
    return generator, generator.save(tmp_path / "uvit")


def test_a_generator_with_it_saves_loads_and_makes_the_same_image(saved):
    before, folder = saved
    index = json.loads((folder / "model_index.json").read_text())
    assert index["unet"] == ["vesalius.models.uvit", "UViT"]
    assert (folder / "unet/diffusion_pytorch_model.safetensors").is_file()
    after = load_generator(folder, "cpu", "float32")
    assert isinstance(after.unet, UViT)
    assert (after.native_size, after.size_multiple) == ((32, 32), 16)
    images = [TextToImage(g).generate("lung nodule", seed=3)[0].image for g in (before, after)]
    assert np.array_equal(*map(np.asarray, images))
    assert TextToImage(after).generate("lung", size="48x32")[0].image.size == (48, 32)


def test_no_other_class_of_ours_is_taken_from_a_folder(saved):
    _, folder = saved
    index = folder / "model_index.json"
    whole = json.loads(index.read_text())
    index.write_text(json.dumps(whole | {"unet": ["vesalius", "UViT"]}))
    assert check_folder(folder)["unet"] == "UViT"
    for entry in (["vesalius", "Block"], ["vesalius.models", "UViT"], ["my_package", "UViT"]):
        index.write_text(json.dumps(whole | {"unet": entry}))
        with pytest.raises(VesaliusError, match="code outside diffusers is not run"):
            check_folder(folder)
    index.write_text(json.dumps(whole | {"vae": ["vesalius.models.uvit", "UViT"]}))
    with pytest.raises(VesaliusError, match="code outside diffusers is not run"):
        check_folder(folder)


def test_stock_diffusers_loads_and_runs_it(tiny_sd, model, tmp_path):
    from diffusers import StableDiffusionPipeline

    generator = load_generator(tiny_sd, "cpu", "float32")
    generator.unet = model.eval()
    folder = generator.save(tmp_path / "uvit")
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("lung", num_inference_steps=2).images[0]
    assert image.size == (32, 32)
    # and the other way: what stock diffusers saves is read here
    pipeline.save_pretrained(tmp_path / "stock")
    theirs = load_generator(tmp_path / "stock", "cpu", "float32").unet.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in model.state_dict().items())
