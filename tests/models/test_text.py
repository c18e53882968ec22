"""Prompts become the states that stock diffusers feeds, and what is cut is told."""

import pytest
import torch
from tests.small import TRANSFORMER

from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.models.text import (
    encode_prompts,
    expand_multi_vector,
    lost_words,
    token_window,
    tokenize_prompts,
)

PROMPTS = ["a chest x-ray", "", "lung nodule of the right lung with effusion without the left " * 3]


LONG = "a chest x-ray of the right lung with effusion, without nodule of the left lung, retina"


def parts_of(folder):
    """Tokenizer and text encoder of a model in diffusers layout."""
    parts = load_generator(folder, "cpu", "float32")
    return parts.tokenizer, parts.text_encoder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A RoBERTa whose tokens are single bytes, the space before a word being one of its own."""
    from tokenizers import pre_tokenizers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: k for k, token in enumerate(tokens)}
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=16)
    config = RobertaConfig(
        vocab_size=len(tokens),
        **TRANSFORMER,
        max_position_embeddings=18,
        type_vocab_size=1,
    )
    return tokenizer, RobertaModel(config).eval()


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


@pytest.mark.parametrize("folder", ["tiny_sd", "tiny_flow"])
def test_chunks_hold_a_short_caption_as_without_them(folder, request):
    tokenizer, encoder = parts_of(request.getfixturevalue(folder))
    prompts = ["a lung", ""]
    one = encode_prompts(tokenizer, encoder, prompts)
    three = encode_prompts(tokenizer, encoder, prompts, chunks=3)
    assert three.shape == (2, 48, 8)
    torch.testing.assert_close(three[:, :16], one)
    # what the caption does not reach reads as the empty prompt, as in the web UIs
    torch.testing.assert_close(three[:, 16:32], one[1:].expand(2, -1, -1))
    torch.testing.assert_close(three[:, 32:], one[1:].expand(2, -1, -1))


def read(tokenizer, prompt, chunks):
    """What the text encoder is shown of `prompt`, window by window."""
    ids = tokenize_prompts(tokenizer, [prompt], chunks).input_ids
    assert ids.shape == (chunks, 16)
    return [tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids]


def test_windows_end_between_words(tiny_flow, tiny_sd, roberta):
    bert = parts_of(tiny_flow)[0]
    text = "lung " * 12 + "xyz of the left nodule"
    # xyz is three tokens and two are left: it goes to the next window whole
    assert read(bert, text, 2) == [("lung " * 12).strip(), "xyz of the left nodule"]
    assert lost_words(bert, text, 2) is None
    clip = parts_of(tiny_sd)[0]  # one token a letter: 14 to a window
    assert read(clip, "lung nodule effusion", 3) == ["lung nodule", "effusion", ""]
    assert read(roberta[0], "lung nodule effusion", 3) == ["lung nodule", "effusion", ""]


def test_a_word_longer_than_a_window_is_cut_and_the_last_window_filled(tiny_sd):
    clip = parts_of(tiny_sd)[0]
    word = "abcdefghijklmnopqrst"
    assert read(clip, f"{word} lung", 3) == [word[:14], f"{word[14:]} lung", ""]
    assert read(clip, f"lung {word} {word}", 2) == ["lung", word[:14]]
    assert lost_words(clip, f"lung {word} {word}", 2) == f"{word} {word}"
    assert lost_words(clip, f"lung {word}", 3) is None
    assert read(clip, f"lung {word}", 1) == [f"lung {word[:10]}"]  # as without chunks


def test_a_chunk_has_the_states_of_its_words_alone(tiny_flow, tiny_sd, roberta):
    for tokenizer, encoder in (parts_of(tiny_flow), parts_of(tiny_sd), roberta):
        chunked = encode_prompts(tokenizer, encoder, [LONG, "lung"], chunks=4)
        assert chunked.shape == (2, 64, 8)
        alone = encode_prompts(tokenizer, encoder, read(tokenizer, LONG, 4))
        same = chunked[0].view(4, 16, 8)
        torch.testing.assert_close(same[0], alone[0])
        if tokenizer is not roberta[0]:  # to a RoBERTa the space before a word is part of it
            torch.testing.assert_close(same[:3], alone[:3])  # the last may end within a word


def test_the_vectors_of_a_concept_stay_in_one_window(tiny_flow):
    tokenizer = parts_of(tiny_flow)[0]
    tokenizer.add_tokens(["<tb>", *(f"<tb>_{k}" for k in range(1, 6))])
    concept = " ".join(["<tb>", *(f"<tb>_{k}" for k in range(1, 6))])
    first, second = read(tokenizer, "lung " * 10 + "<tb> lung", 2)
    assert first == ("lung " * 10).strip()
    assert second.split() == [*concept.split(), "lung"]


def test_tokenizers_without_offsets_are_cut_by_tokens(tiny_flow):
    class Slow:
        """A fast tokenizer that hides where its tokens begin."""

        is_fast = False

        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def __call__(self, *texts, **options):
            return self.tokenizer(*texts, **options)

    slow = Slow(parts_of(tiny_flow)[0])
    assert read(slow, "lung " * 12 + "xyz of", 2) == ["lung " * 12 + "xy", "##z of"]
    assert lost_words(slow, "lung " * 28 + "effusion", 2) == "effusion"


def test_no_chunk_at_all_is_refused(tiny_flow):
    with pytest.raises(VesaliusError, match="1 chunk or more"):
        encode_prompts(*parts_of(tiny_flow), ["lung"], chunks=0)


def test_all_token_states_of_a_clip_with_a_projection_are_given(tiny_sd):
    from transformers import CLIPTextModelWithProjection

    folder = tiny_sd / "text_encoder"
    tokenizer, encoder = parts_of(tiny_sd)
    projected = CLIPTextModelWithProjection.from_pretrained(folder)
    states = encode_prompts(tokenizer, projected, PROMPTS)
    torch.testing.assert_close(states, encode_prompts(tokenizer, encoder, PROMPTS))
