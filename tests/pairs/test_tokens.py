import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, CLIPTokenizer

from vesalius.errors import VesaliusError
from vesalius.models.locate import bundled_models
from vesalius.models.text import lost_words
from vesalius.pairs import tokens
from vesalius.pairs.tokens import budget, load_counter


@pytest.fixture(scope="module")
def mini():
    return AutoTokenizer.from_pretrained(bundled_models()["mini"] / "tokenizer")


WORDS = ["a", "effusion,", "pneumothorax", "Ödem", "12.5", "--", "naïve"]


@given(st.lists(st.sampled_from(WORDS), max_size=90))
def test_counts_and_lost_words_are_the_text_encoders(mini, words):
    counter, text = load_counter("mini"), " ".join(words)
    assert counter.window == mini.model_max_length
    assert counter.count(text) == len(mini(text, truncation=False, verbose=False).input_ids)
    assert counter.lost(text) == lost_words(mini, text)


def test_the_report_says_how_many_captions_are_cut_and_which_words_are_lost():
    counter = load_counter("mini")
    long = "lung " * (counter.window - counter.special)
    rows = [("a", "clear"), ("b", f"{long}Effusion, mass"), ("c", f"{long}Effusion, mass")]
    report = json.loads(json.dumps(budget([*rows, ("d", f"{long}effusion")], counter)))
    assert (report["captions"], report["cut"], report["window"]) == (4, 3, counter.window)
    assert report["longest"] == counter.count(rows[1][1])
    assert report["lost_words"] == [
        {"word": "effusion", "captions": 3},
        {"word": "mass", "captions": 2},
    ]
    assert report["examples"][0] == {"key": "b", "caption": rows[1][1], "lost": "Effusion, mass"}
    assert len(report["examples"]) == 2
    assert budget([], counter)["longest"] == 0


def test_batches_do_not_change_the_report(monkeypatch):
    counter = load_counter("mini")
    rows = [(str(k), "lung " * k) for k in range(40, 80)]
    whole = budget(rows, counter)
    monkeypatch.setattr(tokens, "_BATCH", 7)
    assert budget(rows, counter) == whole


def test_the_vocabulary_files_of_stable_diffusion_1_give_clips_own_tokens(tmp_path):
    pieces = [*"abcdefghilnoprstuv.,'", *(f"{c}</w>" for c in "abcdefghilnoprstuv.,'")]
    merges = ["l u", "lu n", "n g</w>", "lun g</w>", "l e", "f t</w>", "le ft</w>"]
    vocab = [*pieces, *("".join(m.split()) for m in merges), "<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path / "model" / "tokenizer"
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({v: k for k, v in enumerate(vocab)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 9}')
    theirs, ours = CLIPTokenizer.from_pretrained(folder), load_counter(str(tmp_path / "model"))
    for text in ("Left  lung, it's\nclear.", "lungs", "", "left <|endoftext|> lung", "<left>"):
        assert ours.tokenizer.encode(text).ids == theirs(text, verbose=False).input_ids
        assert ours.count(text) == len(theirs(text, verbose=False).input_ids)
        assert ours.lost(text) == lost_words(theirs, text)


def test_a_vocabulary_of_bert_is_enough(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlung\n##s\n")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 4}')
    counter = load_counter(str(tmp_path))
    assert counter.count("Lungs lung") == 5
    assert counter.lost("Lungs lung") == "lung"


def test_what_holds_no_tokenizer_is_told_in_one_line(tmp_path):
    with pytest.raises(VesaliusError, match="holds no tokenizer"):
        load_counter(str(tmp_path))
    with pytest.raises(VesaliusError, match="local cache"):
        load_counter("nobody/nothing")
    with pytest.raises(VesaliusError, match="no tokenizer"):
        load_counter("no such folder/at/all")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(VesaliusError, match="cannot be read"):
        load_counter(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlung\n")
    with pytest.raises(VesaliusError, match="model_max_length"):
        load_counter(str(tmp_path))
