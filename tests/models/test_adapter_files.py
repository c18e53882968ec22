"""Adapters as other programs have written them: read to the bit, or refused by name."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vesalius.core.tensors import save_tensors
from vesalius.errors import VesaliusError
from vesalius.models import adapter_files as module
from vesalius.models.adapter_files import Lora, read_adapter
from vesalius.models.embeddings import Embedding

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
CLIP = "text_encoder.text_model.encoder.layers.0.self_attn"


def pair(seed=0, rank=4, size=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rank, size, generator=generator), torch.randn(
        size, rank, generator=generator
    )


@pytest.mark.parametrize("prefix", ["unet.", ""])
@pytest.mark.parametrize("which", ["q", "k", "v", "out"])
def test_attention_processors_of_2023_are_read(tmp_path, prefix, which):
    down, up = pair()
    name = f"{prefix}{BLOCK}.processor.to_{which}_lora"
    save_file({f"{name}.down.weight": down, f"{name}.up.weight": up}, tmp_path / "a.safetensors")
    torch.save({f"{name}.down.weight": down, f"{name}.up.weight": up}, tmp_path / "a.bin")
    layer = f"unet.{BLOCK}.to_{which}{'.0' if which == 'out' else ''}"
    for file, legacy in (("a.safetensors", False), ("a.bin", True)):
        lora = read_adapter(tmp_path / file, legacy=legacy)
        assert isinstance(lora, Lora)
        assert list(lora.pairs) == [layer]
        assert torch.equal(lora.pairs[layer][0], down)
        assert torch.equal(lora.pairs[layer][1], up)
        assert lora.alphas[layer] == 4  # scaling 1


def test_text_encoders_of_2023_are_read(tmp_path):
    down, up = pair()
    tensors = {f"{CLIP}.to_out_lora.down.weight": down, f"{CLIP}.to_out_lora.up.weight": up}
    save_file(tensors, tmp_path / "a.safetensors")
    lora = read_adapter(tmp_path / "a.safetensors")
    assert list(lora.pairs) == ["text_encoder.encoder.layers.0.self_attn.out_proj"]


def test_old_files_mean_what_diffusers_makes_of_them(tmp_path):
    """The names that diffusers' own converter gives are those that ours gives."""
    from diffusers.utils.state_dict_utils import (
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    down, up = pair()
    unet = {
        f"{BLOCK}.processor.to_{which}_lora.{half}.weight": tensor
        for which in ("q", "k", "v", "out")
        for half, tensor in (("down", down), ("up", up))
    }
    save_file(
        {f"unet.{key}": tensor.clone() for key, tensor in unet.items()}, tmp_path / "a.safetensors"
    )
    theirs = convert_unet_state_dict_to_peft(unet)
    lora = read_adapter(tmp_path / "a.safetensors")
    assert {f"unet.{key.rpartition('.lora_')[0]}" for key in theirs} == set(lora.pairs)
    text = {
        f"{CLIP}.to_{which}_lora.{half}.weight": tensor
        for which in ("q", "out")
        for half, tensor in (("down", down), ("up", up))
    }
    save_file({key: tensor.clone() for key, tensor in text.items()}, tmp_path / "t.safetensors")
    names = {key.rpartition(".lora_")[0] for key in convert_state_dict_to_peft(text)}
    ours = read_adapter(tmp_path / "t.safetensors")
    assert {name.replace(".text_model.", ".") for name in names} == set(ours.pairs)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (f"base_model.model.{BLOCK}.to_q.lora_magnitude_vector", "DoRA"),
        ("lora_unet_x.hada_w1_a", "LoHa"),
        (f"unet.{BLOCK}.to_q.lokr_w1", "LoKr"),
        (f"unet.{BLOCK}.to_q.oft_R.weight", "OFT"),
        (f"unet.{BLOCK}.to_q.ia3_l", "IA3"),
        ("double_blocks.0.img_attn.proj.lora_A.weight.x", "Flux"),
        ("transformer.single.lora_A.weight", "another kind of model"),
        ("something.else", "neither"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path, key, kind):
    save_file({key: torch.ones(4, 8)}, tmp_path / "a.safetensors")
    with pytest.raises(VesaliusError, match=kind):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("file", "key", "is_embedding"),
    [
        ("a", "emb_params", True),
        ("a", "<concept>", True),
        ("sks", "sks", True),
        ("learned_embeds", "sks", True),
        ("a", "weight", False),
        ("a", "matrix", False),
    ],
)
def test_a_lone_matrix_is_an_embedding_only_where_it_says_so(tmp_path, file, key, is_embedding):
    path = tmp_path / f"{file}.safetensors"
    save_file({key: torch.ones(2, 8)}, path)
    if is_embedding:
        assert isinstance(read_adapter(path), Embedding)
    else:
        with pytest.raises(VesaliusError, match="neither"):
            read_adapter(path)


@pytest.mark.parametrize(
    ("pattern", "alpha"), [("attn1.to_q", 2.0), ("^" + BLOCK.replace(".", r"\.") + r"\.to_q", 2.0),
                           ("to_k", 8.0), ("(a+)+$", None), (".*to_q", None)]
)  # fmt: skip
def test_no_pattern_of_a_file_is_run(tmp_path, pattern, alpha):
    down, up = pair()
    name = f"unet.{BLOCK}.to_q"
    config = {"unet.lora_alpha": 8, "unet.alpha_pattern": {pattern: 2}}
    save_file(
        {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up},
        tmp_path / "a.safetensors",
        {"lora_adapter_metadata": json.dumps(config)},
    )
    if alpha is None:
        with pytest.raises(VesaliusError, match="no layer's name"):
            read_adapter(tmp_path / "a.safetensors")
    else:
        assert read_adapter(tmp_path / "a.safetensors").alphas == {name: alpha}


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    source = tmp_path / "a.safetensors"
    save_tensors(source, {"<x>": torch.ones(1, 8)}, {})
    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(module, "read_tensors", lambda _file: ({"<x>": torch.ones(1, 8)}, {}))
    with pytest.raises(VesaliusError, match="the disk is full"):
        module.export_adapter(source, "diffusers", tmp_path / "b.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
