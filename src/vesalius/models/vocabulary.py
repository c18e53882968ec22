"""A text encoder with fewer words: what it says of texts in those that are kept is the same.

Half of a small BERT is its table of word pieces, of which medical captions use a few per cent.
WordPiece takes at each place the longest piece that it knows. A text whose pieces are all kept is
therefore cut as before, and its states are the same to the bit; any other text is cut into more
and shorter pieces, single characters in the end.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from vesalius.core.quiet import quiet
from vesalius.errors import VesaliusError

_CONTINUED = "##"
_UNUSED = "[unused"  # places that BERT keeps free


def prune_vocabulary(
    tokenizer: Any, encoder: Any, keep_texts: Iterable[str], size: int
) -> tuple[Any, Any]:
    """A tokenizer of about `size` pieces, and `encoder`, whose embeddings are cut to them in place.

    Kept are the special tokens, all single characters, at the start of a word and within one, and
    every piece of `keep_texts`, even if that is more than `size`; then the first of the others,
    words and parts of words, as their order in a BERT's vocabulary is that of how common they are.

    Raises VesaliusError for a tokenizer that is not WordPiece.
    """
    about = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    if about.get("model", {}).get("type") != "WordPiece":
        raise VesaliusError(
            "text_encoder.vocabulary: only a WordPiece tokenizer, as a BERT has, can be cut: leave "
            f"it out for this {type(tokenizer).__name__}"
        )
    known: dict[str, int] = about["model"]["vocab"]
    kept = sorted(_kept(tokenizer, known, keep_texts, size), key=known.__getitem__)
    new = {piece: number for number, piece in enumerate(kept)}
    old = torch.tensor([known[piece] for piece in kept])
    by_number = {known[piece]: number for piece, number in new.items()}
    smaller = _rewritten(tokenizer, new)
    words = encoder.get_input_embeddings()
    padding = by_number.get(words.padding_idx)
    with torch.no_grad():
        weight = words.weight[old.to(words.weight.device)].clone()
    table = nn.Embedding.from_pretrained(weight, freeze=True, padding_idx=padding)
    encoder.set_input_embeddings(table.requires_grad_(words.weight.requires_grad))
    encoder.config.vocab_size = len(kept)
    for name, value in encoder.config.to_dict().items():
        if name.endswith("_token_id") and value in by_number:
            setattr(encoder.config, name, by_number[value])
    return smaller, encoder


def _kept(tokenizer: Any, known: dict[str, int], texts: Iterable[str], size: int) -> set[str]:
    kept = {piece for piece in known if len(piece.removeprefix(_CONTINUED)) == 1}
    kept |= {*tokenizer.all_special_tokens, *tokenizer.added_tokens_encoder} & known.keys()
    distinct = list(dict.fromkeys(texts))
    if distinct:
        used = tokenizer(distinct, add_special_tokens=False, truncation=False, verbose=False)
        pieces = {number for ids in used.input_ids for number in ids}
        kept |= set(tokenizer.convert_ids_to_tokens(sorted(pieces)))
    for piece in sorted(known, key=known.__getitem__):
        if len(kept) >= size:
            break
        if not piece.startswith(_UNUSED):
            kept.add(piece)
    return kept


def _rewritten(tokenizer: Any, new: dict[str, int]) -> Any:
    """The tokenizer with the pieces of `new` alone, numbered so, wherever a file says numbers."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as name, quiet():
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        path = folder / "tokenizer.json"
        about = json.loads(path.read_text(encoding="utf-8"))
        about["model"]["vocab"] = new
        for token in about["added_tokens"]:
            token["id"] = new[token["content"]]
        if about.get("padding"):
            about["padding"]["pad_id"] = new[about["padding"]["pad_token"]]
        _renumber(about.get("post_processor"), new)
        path.write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
        (folder / "vocab.txt").unlink(missing_ok=True)  # it would be read first
        smaller = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    smaller.name_or_path = tokenizer.name_or_path
    return smaller


def _renumber(part: Any, new: dict[str, int]) -> None:
    """Numbers of special tokens, in either form that post-processors write them."""
    pieces = list(part.values()) if isinstance(part, dict) else part
    if not isinstance(pieces, list):
        return
    if isinstance(part, dict) and "ids" in part:
        part["ids"] = [new[token] for token in part["tokens"]]
    elif part is pieces and [type(one) for one in pieces] == [str, int]:
        part[1] = new[part[0]]
    for each in pieces:
        _renumber(each, new)
