"""kohya's names lead to the right layers and back, and the weights stay as they are."""

import pytest
import torch
from torch import nn

from vesalius.errors import VesaliusError
from vesalius.models.kohya import from_kohya, is_kohya, to_kohya


def layers(network: nn.Module) -> list[str]:
    return [n for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]


def networks() -> dict[str, list[str]]:
    from diffusers import UNet2DConditionModel
    from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel

    from vesalius.models.uvit import UViT

    with torch.device("meta"):
        clip = CLIPTextModel(CLIPTextConfig(num_hidden_layers=2, bos_token_id=0, eos_token_id=1))
        return {
            "unet": layers(UNet2DConditionModel(cross_attention_dim=768)),  # Stable Diffusion 1.5
            "U-ViT": layers(UViT(layers=5)),
            "clip": [f"text_model.{n.removeprefix('text_model.')}" for n in layers(clip)],
            "bert": layers(BertModel(BertConfig(num_hidden_layers=2))),
        }


def test_every_layer_of_every_network_is_found_again():
    for kind, names in networks().items():
        component = "unet" if kind.lower().startswith("u") else "text_encoder"
        pairs = {f"{component}.{n}": (torch.zeros(1, 2), torch.zeros(2, 1)) for n in names}
        back, _ = from_kohya(to_kohya(pairs, dict.fromkeys(pairs, 1.0)))
        assert list(back) == list(pairs)
        assert len(back) >= 12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_round_trip_is_exact_both_ways(dtype):
    """Also alpha: 12.3 has no float16, and must not become 12.297."""
    q, v = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", "lora_te_x_fc1"
    kohya = {
        f"{q}.lora_down.weight": torch.randn(4, 8).to(dtype),
        f"{q}.lora_up.weight": torch.randn(8, 4).to(dtype),
        f"{q}.alpha": torch.tensor(2.0, dtype=dtype),
        f"{v}.lora_down.weight": torch.randn(2, 8, 1, 1).to(dtype),
        f"{v}.lora_up.weight": torch.randn(8, 2, 1, 1).to(dtype),
        f"{v}.alpha": torch.tensor(12.3),
    }
    pairs, alphas = from_kohya(kohya)
    again = to_kohya(pairs, alphas)
    assert list(again) == list(kohya)
    for name, tensor in kohya.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


def test_without_alpha_it_is_the_rank():
    key = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    down, up = torch.zeros(4, 8), torch.zeros(8, 4)
    _, alphas = from_kohya({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up})
    assert alphas == {"text_encoder.text_model.encoder.layers.0.mlp.fc1": 4.0}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora_unet_x.lora_down.weight"], "one half"),
        (["lora_unet_x.lora_up.weight"], "one half"),
        (
            ["lora_te2_x.lora_down.weight", "lora_te2_x.lora_up.weight"],
            "such as Stable Diffusion X",
        ),
        (["lora_unet_x.hada_w1_a"], "LoHa, LoKr, DoRA"),
    ],
)
def test_what_is_no_plain_lora_is_refused(names, message):
    with pytest.raises(VesaliusError, match=message):
        from_kohya({name: torch.zeros(2, 2) for name in names})


def test_an_alpha_that_is_not_one_number_is_refused():
    halves = {"lora_down": torch.ones(2, 4), "lora_up": torch.ones(4, 2)}
    tensors = {f"lora_unet_a_to_q.{name}.weight": half for name, half in halves.items()}
    with pytest.raises(VesaliusError, match="not one number"):
        from_kohya(tensors | {"lora_unet_a_to_q.alpha": torch.ones(2)})


def test_other_formats_are_not_taken_for_kohya():
    assert is_kohya({"lora_te_a.lora_down.weight": 0})
    assert not is_kohya({"unet.mid_block.to_q.lora_A.weight": 0})
