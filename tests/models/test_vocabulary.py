"""A text encoder with fewer word pieces says the same of texts in those that are kept."""

import json
import shutil

import pytest
import torch
from tests.small import TRANSFORMER
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer

from vesalius.errors import VesaliusError
from vesalius.models.text import encode_prompts
from vesalius.models.text_encoder import PACKAGED, load_text_encoder
from vesalius.models.vocabulary import prune_vocabulary

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["the", "of", "chest", "##ing", "nodule", "lung", "lungs", "calc", "##ified", "##es"]


@pytest.fixture
def bert(tmp_path):
    """A random BERT whose vocabulary is ordered as BERT's: special, characters, words by use."""
    torch.manual_seed(0)
    pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    config = BertConfig(
        vocab_size=len(pieces),
        **TRANSFORMER,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    return str(tmp_path / "bert")


def pruned(source, texts, size, tokens=16):
    tokenizer, encoder = load_text_encoder(source, tokens)
    return prune_vocabulary(tokenizer, encoder, texts, size)


def test_texts_of_kept_pieces_have_the_same_states_to_the_bit(bert):
    texts = ["calcified nodule", "lungs"]
    tokenizer, encoder = pruned(bert, texts, 10)
    whole_tokenizer, whole = load_text_encoder(bert, 16)
    vocabulary = tokenizer.get_vocab()
    assert {"calc", "##ified", "nodule", "lungs"} <= vocabulary.keys()
    assert not {"lung", "##es", "chest", "[unused0]"} & vocabulary.keys()
    assert len(vocabulary) == encoder.config.vocab_size == len(SPECIAL) - 1 + 52 + 4
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    for text in ("calcified nodule", "lungs nodule", "q", ""):
        assert tokenizer.tokenize(text) == whole_tokenizer.tokenize(text)
    ours = encode_prompts(tokenizer, encoder, ["calcified nodule", "lungs nodule", "q", ""])
    theirs = encode_prompts(whole_tokenizer, whole, ["calcified nodule", "lungs nodule", "q", ""])
    assert torch.equal(ours, theirs)
    assert tokenizer.tokenize("of") == ["o", "##f"]  # any other text is spelt
    assert tokenizer.unk_token not in tokenizer.tokenize("any letters at all")


def test_the_most_common_of_the_others_fill_the_size(bert):
    fixed = len(SPECIAL) - 1 + 52
    tokenizer, _ = pruned(bert, ["nodule"], fixed + 4)
    assert set(tokenizer.get_vocab()) & set(WORDS) == {"nodule", "the", "of", "chest"}
    assert len(pruned(bert, [], 10_000)[0]) == fixed + len(WORDS)


def test_what_is_saved_loads_in_stock_transformers(bert, tmp_path):
    tokenizer, encoder = pruned(bert, ["calcified lungs"], 10)
    tokenizer.save_pretrained(tmp_path / "small")
    encoder.save_pretrained(tmp_path / "small")
    read, model = (kind.from_pretrained(tmp_path / "small") for kind in (AutoTokenizer, AutoModel))
    batch = read(["calcified lungs", "lungs"], padding=True, return_tensors="pt")
    assert batch.input_ids[1, -1] == read.pad_token_id == model.config.pad_token_id
    assert batch.input_ids[:, 0].tolist() == [read.cls_token_id] * 2
    whole, other = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert)
    theirs = whole(["calcified lungs", "lungs"], padding=True, return_tensors="pt")
    states = model.eval()(**batch).last_hidden_state
    assert torch.equal(states, other.eval()(**theirs).last_hidden_state)
    assert model.embeddings.word_embeddings.padding_idx == read.pad_token_id
    told = (tmp_path / "small" / "tokenizer_config.json").read_text()
    assert str(tmp_path) not in told and "/tmp" not in told
    assert json.loads(told)["model_max_length"] == 16


def test_a_tokenizer_of_another_kind_is_refused(tiny_sd, tmp_path):
    shutil.copytree(tiny_sd / "text_encoder", tmp_path / "clip")
    shutil.copytree(tiny_sd / "tokenizer", tmp_path / "clip", dirs_exist_ok=True)
    with pytest.raises(VesaliusError, match="only a WordPiece tokenizer"):
        pruned(str(tmp_path / "clip"), [], 10)


def test_minilm_of_8000_pieces_says_the_same():
    pytest.importorskip(PACKAGED[MINILM][0], reason="all-MiniLM-L6-v2 is not installed")
    texts = [
        "chest X-ray of a child, bacterial pneumonia",
        "dermoscopy image, melanoma in situ, back, female, aged 45",
        "naïve 肺 β-thalassaemia (17%)",
        "",
    ]
    tokenizer, encoder = pruned(MINILM, texts, 8000, 64)
    whole_tokenizer, whole = load_text_encoder(MINILM, 64)
    assert len(tokenizer) == 8000
    for text in texts:
        assert tokenizer.tokenize(text) == whole_tokenizer.tokenize(text)
    ours, theirs = (
        encode_prompts(one, other, texts)
        for one, other in ((tokenizer, encoder), (whole_tokenizer, whole))
    )
    assert torch.equal(ours, theirs)
    assert encoder.num_parameters() < 0.62 * whole.num_parameters()
