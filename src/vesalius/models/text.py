"""Prompts into text states, exactly as stock `StableDiffusionPipeline` feeds them.

The trainer and the sampler both call `encode_prompts`, so a denoiser is never shown text states at
sampling time that it did not meet in training (the padding included: it is attended to unless the
text encoder's own configuration asks for a mask).

A caption longer than the text encoder's window may be read in chunks, as the common web UIs do:
its tokens fill N windows, each with special tokens and padding of its own, and the states of all
windows stand one after the other. A cross-attention denoiser takes any number of them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from vesalius.errors import VesaliusError

# Tokenizers that declare no limit report a huge integer (1e30); nothing real is near this.
LONGEST_WINDOW = 100_000


def token_window(tokenizer: Any) -> int:
    """Tokens of a padded prompt, special tokens included (77 for Stable Diffusion's CLIP).

    Raises VesaliusError when the tokenizer declares none: padding to "max" would have no meaning.
    """
    window = int(tokenizer.model_max_length)
    if window > LONGEST_WINDOW:
        raise VesaliusError(
            "the tokenizer declares no model_max_length: set it in tokenizer_config.json to the "
            "number of tokens that the denoiser was trained with"
        )
    return window


def expand_multi_vector(tokenizer: Any, prompt: str) -> str:
    """Replace a textual-inversion token of several vectors by all of them.

    `<tb>` becomes `<tb> <tb>_1 <tb>_2` where the tokenizer knows those, as diffusers does it.
    """
    for token, vectors in _multi_vectors(tokenizer).items():
        if token in tokenizer.tokenize(prompt):
            prompt = prompt.replace(token, " ".join(vectors))
    return prompt


def _multi_vectors(tokenizer: Any) -> dict[str, list[str]]:
    """Every textual-inversion token of several vectors, and all of them, itself the first."""
    added = tokenizer.added_tokens_encoder
    found = {}
    # Only a token with a `_1` sibling has several vectors; most tokenizers have none at all.
    for token in sorted(token for token in added if f"{token}_1" in added):
        found[token] = [token]
        while (following := f"{token}_{len(found[token])}") in added:
            found[token].append(following)
    return found


def tokenize_prompts(tokenizer: Any, prompts: Sequence[str], chunks: int = 1) -> Any:
    """`input_ids` and `attention_mask` of `prompts`, (N * chunks, T): windows of one after another.

    T is `tokenizer.model_max_length`: every prompt is padded or cut to `chunks` windows of it, and
    `lost_words` gives what was cut. Windows that a prompt does not reach hold the empty prompt.
    Raises VesaliusError when there is no window.
    """
    if chunks < 1:
        raise VesaliusError(f"a caption fills 1 chunk or more, not {chunks}")
    prompts = [expand_multi_vector(tokenizer, prompt) for prompt in prompts]
    form: dict[str, Any] = {"padding": "max_length", "max_length": token_window(tokenizer)}
    if chunks == 1:
        return tokenizer(prompts, **form, truncation=True, return_tensors="pt")
    before, after = _special_tokens(tokenizer)
    windows = [part for prompt in prompts for part in _windows(tokenizer, prompt, chunks)]
    ids = [[*before, *part, *after] for part in windows]
    return tokenizer.pad({"input_ids": ids}, **form, return_tensors="pt")


@torch.no_grad()
def encode_prompts(
    tokenizer: Any, text_encoder: Any, prompts: Sequence[str], chunks: int = 1
) -> torch.Tensor:
    """Text states of `prompts`: (N, chunks * T, width), on the text encoder's device, in its dtype.

    See `tokenize_prompts`. The attention mask is given only where
    `text_encoder.config.use_attention_mask` is true, which is what Stable Diffusion's pipeline does.
    """
    inputs = tokenize_prompts(tokenizer, prompts, chunks)
    device = text_encoder.device
    masked = getattr(text_encoder.config, "use_attention_mask", None)
    mask = inputs.attention_mask.to(device) if masked else None
    # by name: the first output of a CLIP with a projection is one pooled vector, not token states
    output = text_encoder(inputs.input_ids.to(device), attention_mask=mask)
    states = output.last_hidden_state.to(text_encoder.dtype)  # (N * chunks, T, D)
    return states.unflatten(0, (-1, chunks)).flatten(1, 2)


def lost_words(tokenizer: Any, prompt: str, chunks: int = 1) -> str | None:
    """The end of `prompt` that does not fit `chunks` token windows, from its first damaged word on.

    None when all of it fits. A word cut in its middle counts as lost.
    """
    prompt = expand_multi_vector(tokenizer, prompt)
    ids, places = _tokens(tokenizer, prompt)
    end = _ends(tokenizer, ids, prompt, places, chunks)[-1]
    if end == len(ids):
        return None
    if not places:  # no offsets: say it with the tokenizer's own spelling
        return tokenizer.decode(ids[end:]).strip()
    cut = places[end]
    while cut > 0 and not prompt[cut - 1].isspace():
        cut -= 1
    return prompt[cut:].strip()


def _windows(tokenizer: Any, prompt: str, chunks: int) -> list[list[int]]:
    """The tokens of each of the `chunks` windows, without special tokens; the last may be empty."""
    ids, places = _tokens(tokenizer, prompt)
    ends = _ends(tokenizer, ids, prompt, places, chunks)
    return [ids[begin:end] for begin, end in pairwise([0, *ends])]


def _tokens(tokenizer: Any, prompt: str) -> tuple[list[int], list[int]]:
    """Tokens of `prompt` without special ones, and where in it each begins (none if not known)."""
    fast = tokenizer.is_fast
    encoded = tokenizer(
        prompt, add_special_tokens=False, return_offsets_mapping=fast, verbose=False
    )
    return encoded.input_ids, [begin for begin, _ in encoded.offset_mapping] if fast else []


def _ends(tokenizer: Any, ids: list[int], prompt: str, places: list[int], chunks: int) -> list[int]:
    """Where each of the `chunks` windows ends in `ids`.

    A window ends before a word that would not fit it whole, unless that is longer than a window;
    the last one is filled to the brim, as the only window of a prompt without chunks is.
    """
    room = token_window(tokenizer) - tokenizer.num_special_tokens_to_add()
    starts = _word_starts(tokenizer, ids, prompt, places)
    ends = [0]
    for number in range(chunks):
        begin, end = ends[-1], min(ends[-1] + room, len(ids))
        if number < chunks - 1 and end < len(ids):
            end = max((k for k in range(begin + 1, end + 1) if starts[k]), default=end)
        ends.append(end)
    return ends[1:]


def _word_starts(tokenizer: Any, ids: list[int], prompt: str, places: list[int]) -> list[bool]:
    """Whether a word begins with each token; the vectors of a textual inversion are one word."""
    inner = [token for vectors in _multi_vectors(tokenizer).values() for token in vectors[1:]]
    joined = set(tokenizer.convert_tokens_to_ids(inner))
    if not places:  # not known: every token may be a word
        return [token not in joined for token in ids]
    # Tokens that begin at one place are parts of one character, or the space before a word.
    return [
        token not in joined
        and place != before
        and (prompt[place].isspace() or prompt[max(0, place - 1)].isspace())
        for token, place, before in zip(ids, places, [-1, *places], strict=False)
    ]


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded.input_ids, encoded.special_tokens_mask
    first, last = special.index(0), len(special) - special[::-1].index(0)
    return ids[:first], ids[last:]
