"""What a plan and a set must know of adapters: the word that one answers to, the label that it is of."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vesalius.core.labels import listed
from vesalius.core.paths import expanded
from vesalius.synthesize.prompts import Prompt
from vesalius.synthesize.row_adapters import RowAdapters, adapter_of_label, is_run_of_labels

_WORD = re.compile(r"<[^<>\s]+>")


def trigger_of(adapter: Path, label: str) -> str | None:
    """The adapter's own word, of a run with an adapter for each label that label's; None: a LoRA.

    Raises VesaliusError where there is no adapter.
    """
    from vesalius.models.adapter_files import read_adapter
    from vesalius.models.embeddings import Embedding

    run = expanded(adapter)
    read = read_adapter(adapter_of_label(run, label) if is_run_of_labels(run) else run)
    return read.token if isinstance(read, Embedding) else None


def with_trigger(prompts: Iterator[Prompt], word: str) -> Iterator[Prompt]:
    """The prompts with `word`: in the place of other words like it, or else before the text."""
    for text, said in prompts:
        if word not in text:
            text = _WORD.sub(lambda _: word, text) if _WORD.search(text) else f"{word}, {text}"
        yield text, said


def warnings_of(adapters: RowAdapters) -> list[str]:
    """What a user should know of adapters that draw the same rows, or none."""
    found = blended(adapters.common)
    if bare := adapters.bare:
        named = listed([label or "no label" for label in bare])
        found.append(f"rows of {named} have no adapter of their own: the model draws them as it is")
    return found


def _changes_every_image(adapter: Path) -> bool:
    """Whether it is a LoRA: a new word changes only the images whose prompts contain it."""
    from vesalius.models.adapter_files import read_adapter
    from vesalius.models.embeddings import Embedding

    return not isinstance(read_adapter(adapter), Embedding)


def blended(adapters: Sequence[str]) -> list[str]:
    """A warning for each run that trained several of these LoRAs, one for each label."""
    from vesalius.models.adapter_files import adapter_file
    from vesalius.models.adapters import parse_adapter

    labels: dict[Path, dict[str, None]] = {}
    for text in adapters:
        folder = adapter_file(parse_adapter(text)[0]).resolve().parent
        if folder.name == "adapter" and _changes_every_image(folder):
            labels.setdefault(folder.parent.parent, {})[folder.parent.name] = None
    return [
        f"{len(names)} adapters of {run.name}, each trained for one label ({', '.join(names)}), are "
        f"blended into every image: --adapter {run} draws each row with that of its label"
        for run, names in labels.items()
        if len(names) > 1 and not (run / "adapter").is_dir() and (run / "recipe.yaml").is_file()
    ]
