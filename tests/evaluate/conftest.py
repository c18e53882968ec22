"""Tiny random models that answer questions about images."""

import pytest
import torch
from tests.small import TRANSFORMER

WORDS = (
    'Does this figure show " chest lung retina nodule ? Please answer yes or no . Yes No USER : '
)


def tokenizer(folder, *, special=()):
    """Words and single spaces, as a word-level vocabulary of the question."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = dict.fromkeys(["<pad>", "</s>", "<unk>", *special, *WORDS.split()])
    vocabulary = {word: number for number, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
    )


VISION = {**TRANSFORMER, "image_size": 16, "patch_size": 8}


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    """A random LLaVA: a decoder alone, whose image tokens stand in the prompt."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    folder = tmp_path_factory.mktemp("llava")
    words = tokenizer(folder, special=("<image>",))
    torch.manual_seed(0)
    text = LlamaConfig(
        **{**TRANSFORMER, "hidden_size": 16, "intermediate_size": 32},
        vocab_size=len(words),
        num_key_value_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        initializer_range=0.5,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=text,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)
    LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def blip2(tmp_path_factory):
    """A random BLIP-2 on T5: an encoder with the image and the question, a decoder that answers."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        T5Config,
    )

    folder = tmp_path_factory.mktemp("blip2")
    words = tokenizer(folder, special=("<image>",))
    torch.manual_seed(0)
    text = T5Config(
        vocab_size=len(words),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        initializer_factor=0.5,
    )
    query = Blip2QFormerConfig(
        **TRANSFORMER,
        encoder_hidden_size=8,
        vocab_size=len(words),
    )
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**VISION).to_dict(),
        qformer_config=query.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=3,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 16, "width": 16})
    Blip2Processor(images, words, num_query_tokens=3).save_pretrained(folder)
    return folder
