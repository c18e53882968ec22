"""Prompts into text states, exactly as stock `StableDiffusionPipeline` feeds them.

The trainer and the sampler both call `encode_prompts`, so a denoiser is never shown text states at
sampling time that it did not meet in training (the padding included: it is attended to unless the
text encoder's own configuration asks for a mask).
"""

from collections.abc import Sequence
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
    added = tokenizer.added_tokens_encoder
    # Only a token with a `_1` sibling has several vectors; most tokenizers have none at all.
    for token in sorted(token for token in added if f"{token}_1" in added):
        if token in tokenizer.tokenize(prompt):
            vectors = [token]
            while f"{token}_{len(vectors)}" in added:
                vectors.append(f"{token}_{len(vectors)}")
            prompt = prompt.replace(token, " ".join(vectors))
    return prompt


@torch.no_grad()
def encode_prompts(tokenizer: Any, text_encoder: Any, prompts: Sequence[str]) -> torch.Tensor:
    """Text states of `prompts`: (N, tokens, width), on the text encoder's device, in its dtype.

    Every prompt is padded or cut to `tokenizer.model_max_length` tokens; `lost_words` tells what
    was cut. The attention mask is given only where `text_encoder.config.use_attention_mask` is
    true, which is what Stable Diffusion's pipeline does.
    """
    inputs = tokenizer(
        [expand_multi_vector(tokenizer, prompt) for prompt in prompts],
        padding="max_length",
        max_length=token_window(tokenizer),
        truncation=True,
        return_tensors="pt",
    )
    device = text_encoder.device
    masked = getattr(text_encoder.config, "use_attention_mask", None)
    mask = inputs.attention_mask.to(device) if masked else None
    states = text_encoder(inputs.input_ids.to(device), attention_mask=mask)[0]
    return states.to(text_encoder.dtype)  # (N, T, D)


def lost_words(tokenizer: Any, prompt: str) -> str | None:
    """The end of `prompt` that does not fit the token window, from its first damaged word on.

    None when all of it fits. A word cut in its middle counts as lost.
    """
    prompt = expand_multi_vector(tokenizer, prompt)
    room = token_window(tokenizer) - tokenizer.num_special_tokens_to_add()
    if not tokenizer.is_fast:  # no offsets: say it with the tokenizer's own spelling
        ids = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        return tokenizer.decode(ids[room:]).strip() if len(ids) > room else None
    encoded = tokenizer(
        prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    if len(encoded.input_ids) <= room:
        return None
    cut = encoded.offset_mapping[room][0]
    while cut > 0 and not prompt[cut - 1].isspace():
        cut -= 1
    return prompt[cut:].strip()
