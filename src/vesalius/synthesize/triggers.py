"""The word that calls up a textual inversion, put into the prompts of a plan."""

import re
from collections.abc import Iterator
from pathlib import Path

from vesalius.core.labels import slug
from vesalius.synthesize.prompts import Prompt

_WORD = re.compile(r"<[^<>\s]+>")


def trigger_of(adapter: Path, label: str) -> str | None:
    """The adapter's own word, of a run with an adapter for each label that label's; None: a LoRA.

    Raises VesaliusError where there is no adapter.
    """
    from vesalius.models.adapter_files import read_adapter
    from vesalius.models.embeddings import Embedding

    own = adapter.expanduser() / slug(label) / "adapter" if label else adapter
    read = read_adapter(own if own.is_dir() else adapter)
    return read.token if isinstance(read, Embedding) else None


def with_trigger(prompts: Iterator[Prompt], word: str) -> Iterator[Prompt]:
    """The prompts with `word`: in the place of other words like it, or else before the text."""
    for text, said in prompts:
        if word not in text:
            text = _WORD.sub(lambda _: word, text) if _WORD.search(text) else f"{word}, {text}"
        yield text, said
