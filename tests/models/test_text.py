"""Prompts become the states that stock diffusers feeds, and what is cut is told."""

import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.models.text import encode_prompts, expand_multi_vector, lost_words, token_window

PROMPTS = ["a chest x-ray", "", "lung nodule of the right lung with effusion without the left " * 3]


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_states_equal_those_of_the_stock_pipeline(folder, request):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(request.getfixturevalue(folder))
    with torch.no_grad():
        theirs, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
    ours = encode_prompts(pipeline.tokenizer, pipeline.text_encoder, PROMPTS)
    assert ours.shape == (3, 16, 8)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_mask_is_used_only_where_the_text_encoder_asks_for_it(tiny_flow):
    from transformers import BertModel, BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(tiny_flow / "tokenizer")
    encoder = BertModel.from_pretrained(tiny_flow / "text_encoder")
    without = encode_prompts(tokenizer, encoder, ["lung"])
    encoder.config.use_attention_mask = True
    assert not torch.allclose(encode_prompts(tokenizer, encoder, ["lung"]), without)


def test_lost_words_begin_with_the_first_word_that_does_not_fit(tiny_flow, tiny_sd):
    from transformers import BertTokenizer, CLIPTokenizer

    bert = BertTokenizer.from_pretrained(tiny_flow / "tokenizer")
    assert lost_words(bert, "lung " * 14) is None  # 16 tokens less [CLS] and [SEP]
    assert lost_words(bert, "lung " * 14 + "right effusion") == "right effusion"
    # a word whose end alone is cut has lost its meaning too
    assert lost_words(bert, "lung " * 13 + "xyz") == "xyz"
    clip = CLIPTokenizer.from_pretrained(tiny_sd / "tokenizer")
    assert lost_words(clip, "lung") is None
    assert lost_words(clip, "lung lung lung lung") == "lung"


def test_a_token_of_several_vectors_is_spelled_out(tiny_flow):
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(tiny_flow / "tokenizer")
    tokenizer.add_tokens(["<tb>", "<tb>_1", "<tb>_2", "<single>"])
    assert expand_multi_vector(tokenizer, "a <tb> lung") == "a <tb> <tb>_1 <tb>_2 lung"
    assert expand_multi_vector(tokenizer, "a <single> lung") == "a <single> lung"


def test_a_tokenizer_without_a_window_is_refused(tiny_flow):
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(tiny_flow / "tokenizer", model_max_length=int(1e30))
    with pytest.raises(VesaliusError, match="model_max_length"):
        token_window(tokenizer)
