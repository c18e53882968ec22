"""Whether a bundled model can know what a prompt asks for, by the words of its training captions."""

import re
from collections.abc import Iterator, Sequence

from vesalius.errors import VesaliusError
from vesalius.models.locate import bundled_models
from vesalius.pairs.captions import bundled_words, load_dictionary

_WORD = re.compile(r"[a-z]{3,}")
_EVERYWHERE = {"and", "the", "with", "from", "for", "image", "images", "photo", "picture", "scan"}


def unknown_prompts(model: str, prompts: Sequence[str]) -> Iterator[str]:
    """A sentence for the prompts that share no word with the captions of a bundled model."""
    if model not in bundled_models():
        return
    try:
        entries = load_dictionary(model)
    except VesaliusError:  # nothing says what it was trained with
        return
    # labels that a dictionary does not list stand in captions as they are: others may list them
    known = _words(" ".join([*entries, *bundled_words()]).replace("_", " "))
    strange = [prompt for prompt in dict.fromkeys(prompts) if not _words(prompt) & known and prompt]
    if strange:
        kinds = ", ".join(name.replace("_", " ") for name in entries if name != "*")
        yield f"{model} has learned no word of {strange[0]!r}: it knows {kinds}"


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _EVERYWHERE
