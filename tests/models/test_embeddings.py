"""A textual inversion changes its own vectors alone, and says so when it cannot be used."""

import pytest
import torch
from safetensors.torch import load_file

from vesalius.errors import VesaliusError
from vesalius.models.embeddings import add_tokens, save_embedding
from vesalius.models.generator import load_generator
from vesalius.models.text import encode_prompts


@pytest.fixture(params=["tiny_sd", "tiny_flow"])
def parts(request):
    return load_generator(request.getfixturevalue(request.param), "cpu", "float32")


def table(parts) -> torch.Tensor:
    return parts.text_encoder.get_input_embeddings().weight


@pytest.mark.parametrize("trainable", [True, False])
def test_only_the_new_vectors_are_new(parts, trainable):
    parts.text_encoder.requires_grad_(trainable)
    before, prompt = table(parts).detach().clone(), ["a chest x-ray"]
    states = encode_prompts(parts.tokenizer, parts.text_encoder, prompt)
    values = torch.randn(3, 8)
    ids = add_tokens(parts.tokenizer, parts.text_encoder, "<tb>", 3, values)
    assert torch.equal(table(parts)[: len(before)], before)
    assert torch.equal(table(parts)[ids], values)
    assert table(parts).requires_grad is trainable
    assert torch.equal(encode_prompts(parts.tokenizer, parts.text_encoder, prompt), states)


def test_initial_words_are_spread_over_the_vectors(parts):
    words = parts.tokenizer("chest lung", add_special_tokens=False).input_ids
    ids = add_tokens(parts.tokenizer, parts.text_encoder, "<tb>", 2 * len(words), "chest lung")
    twice = [word for word in words for _ in range(2)]
    assert torch.equal(table(parts)[ids], table(parts)[twice])


def test_a_saved_generator_keeps_the_token(parts, tmp_path):
    add_tokens(parts.tokenizer, parts.text_encoder, "<tb>", 3, "lung")
    prompt = ["a <tb> lung"]
    states = encode_prompts(parts.tokenizer, parts.text_encoder, prompt)
    again = load_generator(parts.save(tmp_path / "model"), "cpu", "float32")
    assert torch.equal(encode_prompts(again.tokenizer, again.text_encoder, prompt), states)


def test_64_vectors_of_stable_diffusion_2_take_less_than_a_megabyte(tmp_path):
    values = torch.randn(64, 1024)
    file = save_embedding(tmp_path, "<prostate>", values)
    assert file.name == "learned_embeds.safetensors"
    assert file.stat().st_size < 264_000
    assert torch.equal(load_file(file)["<prostate>"], values)


@pytest.mark.parametrize(
    ("token", "initial", "message"),
    [
        ("lu ng", "lung", "one word"),
        ("", "lung", "one word"),
        ("a", "lung", "has the token a already"),
        ("<TB>", "lung", "reads the token <TB> as <tb>"),
        ("<tb>", "", "say nothing"),
        ("<tb>", torch.zeros(2, 7), "width 7 and the text encoder takes 8"),
    ],
)
def test_bad_tokens_are_told_and_change_nothing(tiny_flow, token, initial, message):
    parts = load_generator(tiny_flow, "cpu", "float32")
    before = len(parts.tokenizer), len(table(parts))
    with pytest.raises(VesaliusError, match=message):
        add_tokens(parts.tokenizer, parts.text_encoder, token, 2, initial)
    assert (len(parts.tokenizer), len(table(parts))) == before
