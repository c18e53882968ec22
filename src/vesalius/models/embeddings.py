"""Textual inversion: new tokens whose vectors are all that is trained (arXiv 2208.01618).

A token of n vectors is n tokens, called as diffusers calls them: `<tb>`, `<tb>_1`, `<tb>_2`, ...
In a prompt `<tb>` stands for all of them (`models.text.expand_multi_vector`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vesalius.core.quiet import quiet
from vesalius.core.tensors import save_tensors
from vesalius.errors import VesaliusError

_RENAME = (
    "choose another, or for an adapter rename it with `vesalius adapter ADAPTER --token NAME "
    "--out FILE`"
)
WEBUI_KEY = "emb_params"  # the web UIs' name for the vectors: there the token is the file's name


@dataclass(frozen=True)
class Embedding:
    """A token and its vectors, (n, width)."""

    token: str
    vectors: torch.Tensor
    about: dict[str, str] = field(default_factory=dict)  # the file's own notes


def vector_names(token: str, vectors: int) -> list[str]:
    """The tokens that stand for `vectors` vectors. Raises VesaliusError for an unusable token."""
    if not token or re.search(r"\s", token):
        raise VesaliusError(f"token {token!r}: a token is one word, such as <tuberculosis>")
    return [token, *(f"{token}_{k}" for k in range(1, vectors))]


def add_tokens(
    tokenizer: Any, text_encoder: Any, token: str, vectors: int, initial: torch.Tensor | str
) -> list[int]:
    """Add `token` with so many vectors to both, in place; return the ids of its rows.

    `initial` is their values, (vectors, width), or words whose own vectors are spread over them.
    Whether the text encoder's embeddings are trainable stays as it was.
    Raises VesaliusError for a token that is there already or that the tokenizer would spell
    otherwise, and for values of another width.
    """
    names = vector_names(token, vectors)
    known = tokenizer.get_vocab()
    if taken := [name for name in names if name in known]:
        raise VesaliusError(f"the model has the token {taken[0]} already: {_RENAME}")
    # Found by its lower-case spelling but not replaced by all of its vectors, neither here nor in
    # stock diffusers: all but the first would silently have no effect.
    if (read := _normalised(tokenizer, token)) != token:
        raise VesaliusError(f"the tokenizer reads the token {token} as {read}: {_RENAME}")
    before = text_encoder.get_input_embeddings().weight
    values = _initial(tokenizer, before, vectors, initial)
    with quiet():
        tokenizer.add_tokens(names)
        # some encoders have more rows than their tokenizer has tokens: never fewer than now
        rows = max(len(tokenizer), before.shape[0])
        text_encoder.resize_token_embeddings(rows, mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(names)
    weight = text_encoder.get_input_embeddings().weight
    weight.requires_grad_(before.requires_grad)
    with torch.no_grad():
        weight[ids] = values.to(weight)
    return ids


def _normalised(tokenizer: Any, token: str) -> str:
    normalizer = tokenizer.backend_tokenizer.normalizer if tokenizer.is_fast else None
    return normalizer.normalize_str(token) if normalizer else token


def _initial(
    tokenizer: Any, weight: torch.Tensor, vectors: int, initial: torch.Tensor | str
) -> torch.Tensor:
    width = weight.shape[1]
    if isinstance(initial, torch.Tensor):
        if initial.shape != (vectors, width):
            raise VesaliusError(
                f"the embedding has vectors of width {initial.shape[-1]} and the text encoder takes "
                f"{width}: it was made for another base"
            )
        return initial
    words = tokenizer(initial, add_special_tokens=False).input_ids
    if not words:
        raise VesaliusError(f"initial words {initial!r} say nothing: give a word, such as lung")
    spread = [words[k * len(words) // vectors] for k in range(vectors)]
    return weight.detach()[spread]


def save_embedding(
    path: Path | str,
    token: str,
    vectors: torch.Tensor,
    about: Mapping[str, Any] | None = None,
    *,
    webui: bool = False,
) -> Path:
    """Write vectors, (n, width), as float32 safetensors; a folder gets `learned_embeds.safetensors`.

    Stock diffusers reads {token: vectors} with `load_textual_inversion`; `webui` writes the form
    of the web UIs instead, which take the file's name for the token. `about` goes into the header.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        path = path / "learned_embeds.safetensors"
    tensors = {WEBUI_KEY if webui else token: vectors.detach().float().cpu().contiguous()}
    notes = {**as_text(about or {}), "format": "pt", "token": token}
    save_tensors(path, tensors, notes)
    return path


def as_text(about: Mapping[str, Any]) -> dict[str, str]:
    """Notes as the header of a safetensors file can hold them: what is not text, as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()}


def embedding_from(
    tensors: Mapping[str, torch.Tensor], about: Mapping[str, str], path: Path
) -> Embedding | None:
    """The embedding that a file's tensors are, or None: one tensor, (n, width) or (width,).

    It is one where its name or the file's says so: a matrix alone may be anything.
    """
    if len(tensors) != 1:
        return None
    ((key, vectors),) = tensors.items()
    if vectors.ndim not in (1, 2) or not vectors.is_floating_point() or not vectors.numel():
        return None
    named = key == WEBUI_KEY or (key[:1], key[-1:]) == ("<", ">") or key == path.stem
    if not named and not path.stem.startswith("learned_embeds") and "token" not in about:
        return None
    token = about.get("token", path.stem) if key == WEBUI_KEY else key
    return Embedding(token, vectors.reshape(-1, vectors.shape[-1]), dict(about))
