"""Whether a bundled model can know what a prompt asks for, by the words of its training captions."""

import re
from collections.abc import Iterator, Sequence
from functools import cache

from vesalius.errors import VesaliusError
from vesalius.models.locate import bundled_models
from vesalius.pairs.captions import bundled_words, load_dictionary, words_of

_WORD = re.compile(r"[a-z]{3,}")
_EVERYWHERE = {"and", "the", "with", "from", "for", "image", "images", "photo", "picture", "scan"}


def unknown_prompts(model: str, prompts: Sequence[str]) -> Iterator[str]:
    """A sentence for the prompts that share no word with the captions of a bundled model."""
    if model not in bundled_models():
        return
    try:
        kinds, own = _known(model)
    except VesaliusError:  # nothing says what it was trained with
        return
    strange = [prompt for prompt in dict.fromkeys(prompts) if not _words(prompt) & own and prompt]
    # labels that a dictionary does not list stand in captions as they are: others may list them
    if strange and (strange := [prompt for prompt in strange if not _words(prompt) & _anywhere()]):
        yield f"{model} has learned no word of {strange[0]!r}: it knows {', '.join(kinds)}"


@cache
def _known(model: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The kinds of image of a model's dictionary, and its words."""
    entries = load_dictionary(model)
    kinds = tuple(name.replace("_", " ") for name in entries if name != "*")
    return kinds, _words(" ".join([*kinds, *words_of(entries)]))


@cache
def _anywhere() -> frozenset[str]:
    return _words(" ".join(bundled_words()))


def _words(text: str) -> frozenset[str]:
    found = _WORD.findall(text.lower().replace("_", " "))
    return frozenset(found) - _EVERYWHERE
