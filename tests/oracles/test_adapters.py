"""Adapters written here do in stock diffusers what they do here, and kohya's names are diffusers'."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya

from vesalius.models.adapter_files import export_adapter, read_adapter
from vesalius.models.adapters import add_lora, load_adapter, lora_tensors, save_lora
from vesalius.models.embeddings import save_embedding
from vesalius.models.generator import load_generator
from vesalius.models.text import encode_prompts

PROMPT = "chest x-ray with effusion"


def trained_lora(model, path, rank=3, alpha=7.0, targets=None):
    """A LoRA of both networks whose B is not zero, as after training."""
    parts = load_generator(model, "cpu", "float32")
    parameters = add_lora(parts.unet, parts.text_encoder, rank, alpha, targets)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    about = {"alpha": alpha, "base": "tiny"}
    return parts, save_lora(path, lora_tensors(parts.unet, parts.text_encoder), about)


def outputs(unet, text_encoder, tokenizer, prompt=PROMPT):
    """Text states and one prediction: all that a generator computes with an adapter."""
    with torch.no_grad():
        states = encode_prompts(tokenizer, text_encoder, [prompt])
        latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        predicted = unet(latents, torch.tensor(500), states, return_dict=False)[0]
    return states, predicted


def assert_same(ours, theirs, exact=False):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=0 if exact else 2e-5, rtol=0 if exact else 2e-5)


@pytest.mark.parametrize("targets", [None, "all"])
@pytest.mark.parametrize("model", ["tiny_sd", "tiny_flow"])
def test_a_lora_in_stock_diffusers_is_the_one_that_was_trained(model, targets, request, tmp_path):
    """Both text encoders, CLIP and BERT, and an alpha that is not the rank."""
    folder = request.getfixturevalue(model)
    trained, file = trained_lora(folder, tmp_path, targets=targets)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    plain = outputs(pipeline.unet, pipeline.text_encoder, pipeline.tokenizer)
    pipeline.load_lora_weights(tmp_path)
    stock = outputs(pipeline.unet, pipeline.text_encoder, pipeline.tokenizer)
    ours = load_generator(folder, "cpu", "float32")
    load_adapter(ours, file)
    expected = outputs(trained.unet, trained.text_encoder, trained.tokenizer)
    assert_same(outputs(ours.unet, ours.text_encoder, ours.tokenizer), expected)
    assert_same(stock, expected)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(plain, expected, strict=True))


def test_two_loras_with_weights_add_up_as_in_stock_diffusers(tiny_sd, tmp_path):
    for name, rank in (("a", 2), ("b", 4)):
        trained_lora(tiny_sd, tmp_path / name, rank=rank)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.load_lora_weights(tmp_path / "a", adapter_name="a")
    pipeline.load_lora_weights(tmp_path / "b", adapter_name="b")
    pipeline.set_adapters(["a", "b"], [1.0, 0.5])
    ours = load_generator(tiny_sd, "cpu", "float32")
    load_adapter(ours, tmp_path / "a")
    load_adapter(ours, tmp_path / "b", 0.5)
    stock = outputs(pipeline.unet, pipeline.text_encoder, pipeline.tokenizer)
    assert_same(outputs(ours.unet, ours.text_encoder, ours.tokenizer), stock)


def test_kohya_export_is_what_diffusers_reads(tiny_sd, tmp_path):
    _, file = trained_lora(tiny_sd, tmp_path / "own")
    export_adapter(file, "kohya", tmp_path / "k.safetensors")
    own, theirs = (StableDiffusionPipeline.from_pretrained(tiny_sd) for _ in range(2))
    own.load_lora_weights(file)
    theirs.load_lora_weights(tmp_path, weight_name="k.safetensors")
    ours = load_generator(tiny_sd, "cpu", "float32")
    load_adapter(ours, tmp_path / "k.safetensors")
    expected = outputs(own.unet, own.text_encoder, own.tokenizer)
    assert_same(outputs(theirs.unet, theirs.text_encoder, theirs.tokenizer), expected)
    assert_same(outputs(ours.unet, ours.text_encoder, ours.tokenizer), expected)


def test_kohya_names_and_alphas_are_those_of_diffusers_conversion(tiny_sd, tmp_path):
    from safetensors.torch import load_file

    _, file = trained_lora(tiny_sd, tmp_path / "own", alpha=6.0)
    export_adapter(file, "kohya", tmp_path / "k.safetensors")
    kohya = load_file(tmp_path / "k.safetensors")
    converted = convert_state_dict_to_kohya(load_file(file))
    assert {k.replace("lora_te1_", "lora_te_") for k in converted} == set(kohya)
    back, alphas = _convert_non_diffusers_lora_to_diffusers(dict(kohya))
    assert len(back) == 2 * len(alphas) == len(load_file(file))
    assert set(alphas.values()) == {6.0}


@pytest.mark.parametrize("vectors", [1, 5])
@pytest.mark.parametrize("model", ["tiny_sd", "tiny_flow"])
def test_an_embedding_in_stock_diffusers(model, vectors, request, tmp_path):
    folder = request.getfixturevalue(model)
    values = torch.randn(vectors, 8, generator=torch.Generator().manual_seed(2))
    file = save_embedding(tmp_path, "<tb>", values)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.load_textual_inversion(str(tmp_path))
    ours = load_generator(folder, "cpu", "float32")
    load_adapter(ours, file)
    with torch.no_grad():
        stock = pipeline.encode_prompt("a <tb> lung", "cpu", 1, False)[0]
        own = encode_prompts(ours.tokenizer, ours.text_encoder, ["a <tb> lung"])
        without = encode_prompts(ours.tokenizer, ours.text_encoder, ["a lung"])
    np.testing.assert_array_equal(own, stock)
    assert not torch.equal(own, without)
    ids = ours.tokenizer.convert_tokens_to_ids(["<tb>", "<tb>_1"][:vectors])
    table = ours.text_encoder.get_input_embeddings().weight
    assert torch.equal(table[ids], values[: len(ids)])


def test_a_web_ui_embedding_in_stock_diffusers(tiny_sd, tmp_path):
    file = save_embedding(tmp_path / "tb.safetensors", "<tb>", torch.ones(3, 8), webui=True)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipeline.load_textual_inversion(str(tmp_path), weight_name=file.name, token="<tb>")
    assert (
        len(pipeline.tokenizer.tokenize(pipeline.maybe_convert_prompt("<tb>", pipeline.tokenizer)))
        == 3
    )


def test_a_peft_folder_is_read(tiny_sd, tmp_path):
    """What `PeftModel.save_pretrained` writes for a U-Net, as CytoDiff's code does."""
    from peft import LoraConfig, get_peft_model

    parts = load_generator(tiny_sd, "cpu", "float32")
    config = LoraConfig(
        r=2, lora_alpha=5, target_modules=["to_q", "to_v"], init_lora_weights=False,
        alpha_pattern={"attn2.to_q": 9}, use_rslora=True,
    )  # fmt: skip
    peft = get_peft_model(parts.unet, config)
    peft.save_pretrained(tmp_path)
    ours = load_generator(tiny_sd, "cpu", "float32")
    load_adapter(ours, tmp_path)
    expected = outputs(peft, parts.text_encoder, parts.tokenizer)
    assert_same(outputs(ours.unet, ours.text_encoder, ours.tokenizer), expected)
    assert set(read_adapter(tmp_path).about) == set()


def test_what_diffusers_saves_is_read(tiny_sd, tmp_path):
    """`save_lora_weights` of a stock script without PEFT's settings: alpha is the rank."""
    trained, _ = trained_lora(tiny_sd, tmp_path / "own", rank=4, alpha=4.0)
    tensors = lora_tensors(trained.unet, trained.text_encoder)
    split = {
        part: {
            k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")
        }
        for part in ("unet", "text_encoder")
    }
    StableDiffusionPipeline.save_lora_weights(tmp_path, split["unet"], split["text_encoder"])
    ours = load_generator(tiny_sd, "cpu", "float32")
    load_adapter(ours, tmp_path / "pytorch_lora_weights.safetensors")
    expected = outputs(trained.unet, trained.text_encoder, trained.tokenizer)
    assert_same(outputs(ours.unet, ours.text_encoder, ours.tokenizer), expected)
