"""Any BERT- or CLIP-like text encoder gives all its token states; what cannot be used is told."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.small import TRANSFORMER

from vesalius.errors import VesaliusError
from vesalius.models.text import encode_prompts
from vesalius.models.text_encoder import load_text_encoder


@pytest.fixture
def bert(tiny_flow, tmp_path):
    """A BERT with its tokenizer as one folder, as hubs keep them."""
    folder = tmp_path / "bert"
    shutil.copytree(tiny_flow / "text_encoder", folder)
    shutil.copytree(tiny_flow / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def with_clip_tokenizer(tiny_sd, folder):
    shutil.copytree(tiny_sd / "tokenizer", folder, dirs_exist_ok=True)
    return str(folder)


def test_a_bert_reads_as_many_tokens_as_it_is_asked_to(bert):
    for tokens in (3, 12, 16):
        tokenizer, encoder = load_text_encoder(str(bert), tokens)
        assert tokenizer.model_max_length == tokens
        assert encoder.config.use_attention_mask
        assert encoder.pooler is None
        assert not any(p.requires_grad for p in encoder.parameters())
        assert encode_prompts(tokenizer, encoder, ["lung"]).shape == (1, tokens, 8)


def test_that_of_a_generator_is_taken_with_its_tokenizer(bert, tiny_flow):
    expected = encode_prompts(*load_text_encoder(str(bert), 12), ["lung"])
    for source in (tiny_flow, tiny_flow / "text_encoder"):
        found = encode_prompts(*load_text_encoder(str(source), 12), ["lung"])
        assert torch.equal(found, expected), source


@pytest.mark.parametrize("tokens", [2, 17])
def test_a_window_that_the_encoder_does_not_have_is_refused(bert, tokens):
    with pytest.raises(VesaliusError, match="reads 3 to 16 tokens"):
        load_text_encoder(str(bert), tokens)


def test_a_roberta_counts_its_positions_from_behind_the_padding(tmp_path):
    from tokenizers import pre_tokenizers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    RobertaTokenizer(vocab={t: k for k, t in enumerate(tokens)}, merges=[]).save_pretrained(
        tmp_path
    )
    config = RobertaConfig(
        vocab_size=len(tokens),
        **TRANSFORMER,
        max_position_embeddings=34,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer, encoder = load_text_encoder(str(tmp_path), 32)
    states = encode_prompts(tokenizer, encoder, ["a caption that is longer than all of the window"])
    assert states.shape == (1, 32, 8)
    with pytest.raises(VesaliusError, match="3 to 32 tokens"):
        load_text_encoder(str(tmp_path), 33)


def test_a_language_model_s_body_is_taken(bert):
    """PubMedBERT and its kin are published with the head that they were trained with."""
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig.from_pretrained(bert))
    model.save_pretrained(bert)
    _, encoder = load_text_encoder(str(bert), 16)
    theirs = model.bert.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in encoder.state_dict().items())


def test_the_text_tower_of_every_kind_of_clip_is_the_same(tiny_sd, tiny_clip, tmp_path):
    from transformers import CLIPTextModelWithProjection

    projected = tmp_path / "projected"
    CLIPTextModelWithProjection.from_pretrained(tiny_clip, projection_dim=6).save_pretrained(
        projected
    )
    whole = load_text_encoder(str(tiny_clip), 16)
    tower = load_text_encoder(with_clip_tokenizer(tiny_sd, projected), 16)
    assert type(whole[1]).__name__ == type(tower[1]).__name__ == "CLIPTextModel"
    prompts = ["lung", "a nodule of the lung"]
    states = encode_prompts(*whole, prompts)
    assert states.shape == (2, 16, 8)  # every token's, never one pooled vector
    torch.testing.assert_close(encode_prompts(*tower, prompts), states)


def test_pickles_are_refused_in_one_line(bert):
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(
        VesaliusError, match=r"only pytorch_model\.bin.*pickles are refused"
    ) as error:
        load_text_encoder(str(bert), 16)
    assert "\n" not in str(error.value)


def test_other_layouts_are_told(bert):
    (bert / "config.json").rename(bert / "open_clip_config.json")
    with pytest.raises(VesaliusError, match="open_clip's layout"):
        load_text_encoder(str(bert), 16)


def test_weights_that_are_missing_are_not_made_up(bert):
    weights = load_file(bert / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VesaliusError, match="lacks 1 of its weights"):
        load_text_encoder(str(bert), 16)


def test_a_torn_file_is_told(bert):
    path = bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(VesaliusError, match="cannot be loaded"):
        load_text_encoder(str(bert), 16)


def test_a_tokenizer_of_another_model_is_refused(bert, tmp_path):
    vocabulary = (bert / "tokenizer.json").read_text()
    assert '"effusion"' in vocabulary
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(bert)
    tokenizer.add_tokens(["pneumothorax"])
    tokenizer.save_pretrained(bert)
    with pytest.raises(VesaliusError, match="not of one model"):
        load_text_encoder(str(bert), 16)


def test_what_gives_no_token_states_is_refused(bert):
    from transformers import T5Config, T5Model

    T5Model(
        T5Config(vocab_size=200, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    ).save_pretrained(bert)
    with pytest.raises(VesaliusError, match="T5Model, which gives no token states"):
        load_text_encoder(str(bert), 16)


def test_an_unknown_name_is_told_without_a_network(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(*_arguments, **_options):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(VesaliusError, match="not on this machine and the hub does not give it"):
        load_text_encoder("someone/some-bert", 16)
