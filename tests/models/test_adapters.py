"""A LoRA trains what it should, its files keep it, and one for another base is refused."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import Lora, export_adapter, read_adapter, write_lora
from vesalius.models.adapters import add_lora, load_adapter, lora_tensors, parse_adapter, save_lora
from vesalius.models.embeddings import save_embedding
from vesalius.models.generator import Generator, load_generator
from vesalius.models.uvit import UViT


def load(folder):
    return load_generator(folder, "cpu", "float32")


@pytest.fixture
def lora_file(tiny_sd, tmp_path) -> Path:
    parts = load(tiny_sd)
    for parameter in add_lora(parts.unet, parts.text_encoder, 2, 6.0):
        torch.nn.init.normal_(parameter)
    tensors = lora_tensors(parts.unet, parts.text_encoder)
    return save_lora(tmp_path / "own.safetensors", tensors, {"alpha": 6.0, "base": "tiny-sd"})


def weights(parts):
    return {
        k: v.clone()
        for k, v in {**parts.unet.state_dict(), **parts.text_encoder.state_dict()}.items()
    }


@pytest.mark.parametrize(("model", "layers"), [("tiny_sd", 32 + 8), ("tiny_flow", 32 + 8)])
def test_attention_of_both_networks_is_what_trains(model, layers, request):
    parts = load(request.getfixturevalue(model))
    parameters = add_lora(parts.unet, parts.text_encoder, rank=2, alpha=2)
    trainable = [
        p for m in (parts.unet, parts.text_encoder) for p in m.parameters() if p.requires_grad
    ]
    assert len(parameters) == 2 * layers
    assert {id(p) for p in parameters} == {id(p) for p in trainable}


def test_a_new_lora_changes_nothing_and_depends_on_its_seed_alone(tiny_sd):
    x = torch.randn(1, 4, 4, 4), torch.tensor(5), torch.randn(1, 3, 8)
    parts = [load(tiny_sd) for _ in range(3)]
    before = parts[0].unet(*x).sample
    drawn = [
        add_lora(p.unet, None, 2, 4, seed=seed) for p, seed in zip(parts, (0, 0, 1), strict=True)
    ]
    assert torch.equal(parts[0].unet(*x).sample, before)
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_a_half_precision_base_gets_a_float32_lora(tiny_sd):
    parts = load(tiny_sd)
    parts.unet.bfloat16()
    assert {p.dtype for p in add_lora(parts.unet, None, 2, 4)} == {torch.float32}
    assert parts.unet.conv_in.weight.dtype == torch.bfloat16


def test_a_lora_of_a_u_vit_is_merged_as_it_was_trained(tmp_path):
    torch.manual_seed(0)
    network = UViT(
        sample_size=4, cross_attention_dim=8, tokens=4, width=8, heads=2, layers=3
    ).eval()  # fmt: skip
    merged = Generator(None, copy.deepcopy(network), torch.nn.Identity(), None, None)
    for parameter in add_lora(network, None, 2, 3):
        torch.nn.init.normal_(parameter)
    load_adapter(merged, save_lora(tmp_path, lora_tensors(network, None), {"alpha": 3}))
    x = torch.randn(1, 4, 4, 4), torch.tensor(5), torch.randn(1, 4, 8)
    torch.testing.assert_close(merged.unet(*x).sample, network(*x).sample)


def test_u_vit_and_chosen_targets(tmp_path):
    arguments = {"sample_size": 4, "cross_attention_dim": 8, "tokens": 4, "width": 8, "heads": 2}
    network = UViT(**arguments, layers=3)
    add_lora(network, None, 2, 2)
    assert {k.split(".")[-3] for k in lora_tensors(network, None)} == {"qkv", "proj"}
    other = UViT(**arguments, layers=3)
    add_lora(other, None, 2, 2, targets=["fc1"])
    file = save_lora(tmp_path, lora_tensors(other, None), {"alpha": 2})
    assert sorted(read_adapter(file).pairs) == [
        "unet.in_blocks.0.fc1", "unet.mid_block.fc1", "unet.out_blocks.0.fc1",
    ]  # fmt: skip
    with pytest.raises(VesaliusError, match="UViT has no to_q: give targets"):
        add_lora(UViT(**arguments, layers=3), None, 2, 2, targets=["to_q"])


def test_a_lora_of_all_layers_has_every_convolution_and_keeps_them_through_kohya(
    tiny_flow, tmp_path
):
    parts = load_generator(tiny_flow, "cpu", "float32")
    for parameter in add_lora(parts.unet, parts.text_encoder, 2, 2, "all"):
        torch.nn.init.normal_(parameter)
    tensors = lora_tensors(parts.unet, parts.text_encoder)
    layers = {name.rsplit(".", 2)[0] for name in tensors}
    convolutions = [n for n, m in parts.unet.named_modules() if isinstance(m, torch.nn.Conv2d)]
    own = {n for n in convolutions if ".lora_" not in n}
    assert own <= {f"{layer.removeprefix('unet.')}.base_layer" for layer in layers}
    assert not any("pooler" in layer for layer in layers)
    file = save_lora(tmp_path, tensors, {"alpha": 2})
    export_adapter(file, "kohya", tmp_path / "kohya.safetensors")
    back = read_adapter(tmp_path / "kohya.safetensors").pairs
    for layer, halves in read_adapter(file).pairs.items():
        assert all(torch.equal(a, b) for a, b in zip(halves, back[layer], strict=True))


def test_every_format_gives_the_same_lora_to_the_bit(lora_file, tmp_path):
    """diffusers to kohya and back, with layers that differ in rank and in alpha."""
    lora = read_adapter(lora_file)
    assert isinstance(lora, Lora)
    odd = next(iter(lora.pairs))
    down, up = lora.pairs[odd]
    lora.pairs[odd] = (down[:1], up[:, :1])
    lora.alphas[odd] = 0.1
    mixed = write_lora(tmp_path / "mixed", lora)
    export_adapter(mixed, "webui", tmp_path / "k.safetensors")
    export_adapter(tmp_path / "k.safetensors", "diffusers", tmp_path / "back.safetensors")
    back = read_adapter(tmp_path / "back.safetensors")
    assert back.about["base"] == "tiny-sd"
    assert set(back.pairs) == set(lora.pairs)
    for layer, pair in lora.pairs.items():
        assert all(torch.equal(a, b) for a, b in zip(back.pairs[layer], pair, strict=True))
        # 0.1 is not a float32: kohya's files cannot say it exactly
        assert back.alphas[layer] == pytest.approx(lora.alphas[layer], rel=1e-7)
    first, again = (
        load_file(tmp_path / name)
        for name in ("mixed/pytorch_lora_weights.safetensors", "back.safetensors")
    )
    assert first.keys() == again.keys()


def test_the_header_says_what_it_is_and_for_which_base(lora_file):
    with safe_open(lora_file, "pt") as file:
        header = file.metadata()
        assert all(
            key.startswith(("unet.", "text_encoder.text_model.")) for key in load_file(lora_file)
        )
    assert header["base"] == "tiny-sd"
    settings = json.loads(header["lora_adapter_metadata"])
    assert (settings["unet.r"], settings["unet.lora_alpha"]) == (2, 6.0)


def test_weight_zero_is_no_adapter_and_weights_add_up(lora_file, tiny_sd):
    plain, none, half_twice, whole = (load(tiny_sd) for _ in range(4))
    load_adapter(none, lora_file, 0)
    load_adapter(half_twice, lora_file, 0.5)
    load_adapter(half_twice, lora_file, 0.5)
    load_adapter(whole, lora_file)
    for name, value in weights(plain).items():
        assert torch.equal(weights(none)[name], value)
        torch.testing.assert_close(weights(half_twice)[name], weights(whole)[name])


def test_a_generator_saved_with_its_adapter_is_whole(lora_file, tiny_sd, tmp_path):
    parts = load(tiny_sd)
    load_adapter(parts, lora_file)
    again = load(parts.save(tmp_path / "merged"))
    for name, value in weights(parts).items():
        assert torch.equal(weights(again)[name], value)


def test_a_lora_for_another_base_is_refused_and_nothing_changes(lora_file, tiny_sd, tmp_path):
    parts = load(tiny_sd)
    before = weights(parts)
    lora = read_adapter(lora_file)
    assert isinstance(lora, Lora)
    last = list(lora.pairs)[-1]
    wide = {**lora.pairs, last: (torch.ones(2, 1024), torch.ones(1024, 2))}
    write_lora(tmp_path / "wide", Lora(wide, lora.alphas, {"base": "SD 2.1"}))
    with pytest.raises(VesaliusError, match=r"SD 2.1.* another base.*1024 .* 8 and 16"):
        load_adapter(parts, tmp_path / "wide")
    lacks = {**lora.pairs, "unet.mid_block.nowhere": wide[last]}
    write_lora(tmp_path / "lacks", Lora(lacks, {**lora.alphas, "unet.mid_block.nowhere": 1.0}))
    with pytest.raises(VesaliusError, match=r"this model has no unet.mid_block.nowhere"):
        load_adapter(parts, tmp_path / "lacks")
    for name, value in weights(parts).items():
        assert torch.equal(before[name], value)


def test_applied_adapters_are_named(lora_file, tiny_sd, tmp_path):
    parts = load(tiny_sd)
    lora = load_adapter(parts, lora_file, 0.5)
    assert lora.provenance == f"own ({lora.hash}) * 0.5"
    embedding = load_adapter(parts, save_embedding(tmp_path / "tb", "<tb>", torch.ones(2, 8)))
    save_embedding(tmp_path / "run" / "adapter", "<b>", torch.ones(1, 8))
    assert load_adapter(parts, tmp_path / "run" / "adapter").name == "run"
    assert (embedding.name, embedding.token, len(embedding.hash)) == ("tb", "<tb>", 16)


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("runs/a:0.5", "runs/a", 0.5),
        ("a:-1", "a", -1.0),
        ("C:\\adapters\\a", "C:\\adapters\\a", 1.0),
        ("x:y/a", "x:y/a", 1.0),
    ],
)
def test_weights_after_a_colon(text, path, weight):
    assert parse_adapter(text) == (Path(path), weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:half", "'half' is not a number: write it as a:0.5"),
        ("a:", "'' is not a number"),
        ("a:nan", "from -10 to 10"),
        ("a:100", "from -10 to 10"),
        (":0.5", "names no file"),
        ("", "names no file"),
    ],
)
def test_bad_weights_are_told(text, message):
    with pytest.raises(VesaliusError, match=message):
        parse_adapter(text)


def broken(kind: str, folder: Path) -> Path:
    """A file or folder that is no adapter, in one of the usual ways."""
    file = folder / "x.safetensors"
    pair = {"unet.a.lora_A.weight": torch.ones(2, 4), "unet.a.lora_B.weight": torch.ones(4, 2)}
    if kind == "missing":
        return folder / "nothing"
    if kind == "empty folder":
        return folder
    if kind == "torn":
        save_file(pair, file)
        file.write_bytes(file.read_bytes()[:-8])
    elif kind == "text":
        file.write_text("not a model")
    elif kind == "half":
        save_file({"unet.a.lora_A.weight": torch.ones(2, 4)}, file)
    elif kind == "mismatch":
        save_file({**pair, "unet.a.lora_B.weight": torch.ones(4, 3)}, file)
    elif kind == "kernel":  # of B, where a LoRA has 1 x 1
        shapes = {"A": (2, 4, 1, 1), "B": (4, 2, 3, 3)}
        save_file({f"unet.a.lora_{k}.weight": torch.ones(s) for k, s in shapes.items()}, file)
    elif kind == "rank 0":
        shapes = {"A": (0, 4), "B": (4, 0)}
        save_file({f"unet.a.lora_{k}.weight": torch.ones(s) for k, s in shapes.items()}, file)
    elif kind == "nan":
        save_file({**pair, "unet.a.lora_B.weight": torch.full((4, 2), torch.nan)}, file)
    elif kind == "model":
        save_file({"conv_in.weight": torch.ones(2), "conv_in.bias": torch.ones(2)}, file)
    elif kind == "SDXL":
        save_file({f"text_encoder_2.{k}": v for k, v in pair.items()}, file)
    elif kind == "nothing":
        save_file({}, file)
    elif kind == "settings":
        save_file(pair, file, metadata={"lora_adapter_metadata": "{"})
    return file


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no adapter"),
        ("empty folder", "holds no safetensors"),
        ("torn", "get it again"),
        ("text", "not a safetensors file"),
        ("half", "only one half"),
        ("mismatch", "do not fit"),
        ("kernel", "do not fit"),
        ("rank 0", "do not fit"),
        ("nan", "NaN"),
        ("model", "neither a plain LoRA nor a textual inversion: it has conv_in"),
        ("SDXL", "another kind of model"),
        ("nothing", "holds nothing"),
        ("settings", "not JSON"),
    ],
)
def test_what_is_no_adapter_is_told(kind, message, tmp_path):
    with pytest.raises(VesaliusError, match=message):
        read_adapter(broken(kind, tmp_path))
