"""Prompt dictionaries: label codes and attributes become the words that a model is trained on.

EyeDiff and MediSyn both build their captions from label codes this way; the dictionary is a YAML
file (its format is explained at the top of `dictionaries/mini.yaml`).
"""

import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vesalius.errors import VesaliusError

Row = dict[str, Any]


class Report(BaseModel):
    """Which column holds free text, and how it is shortened to whole sentences."""

    model_config = ConfigDict(extra="forbid")
    column: str
    characters: int
    informative: list[str] = []


class SetDictionary(BaseModel):
    """How one set's rows become captions."""

    model_config = ConfigDict(extra="forbid")
    templates: list[str]
    words: dict[str, dict[str, str | list[str] | None]] = {}
    group: str | None = None
    drop: list[str] = []
    symmetry: Literal["none", "square"] = "none"
    report: Report | None = None


Dictionary = dict[str, SetDictionary]


def load_dictionary(name: str) -> Dictionary:
    """Read a bundled dictionary by name or any YAML file by path."""
    bundled = files("vesalius.data") / "dictionaries" / f"{name}.yaml"
    source = Path(name) if name.endswith((".yaml", ".yml")) else bundled
    if not source.is_file():
        raise VesaliusError(f"no prompt dictionary {name!r}: give a bundled name or a .yaml file")
    try:
        parsed = yaml.safe_load(source.read_text(encoding="utf-8"))
        return {key: SetDictionary.model_validate(value) for key, value in parsed.items()}
    except (yaml.YAMLError, ValidationError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise VesaliusError(f"the prompt dictionary {name} is not valid: {reason}") from error


def choose(options: list[str], key: str) -> str:
    """One option, the same for the same key on every machine and in every version of Python."""
    digest = hashlib.sha256(key.encode()).digest()
    return options[int.from_bytes(digest[:8]) % len(options)]


def caption(row: Row, dictionary: SetDictionary, key: str) -> str:
    """Caption of one row; `key` (the image's hash) chooses among phrasings and synonyms."""
    words: dict[str, str] = {}
    for column, value in row.items():
        spoken = _spoken(value, dictionary.words.get(column, {}), f"{key}/{column}")
        if spoken:
            words[column] = spoken
    if dictionary.report and dictionary.report.column in words:
        words[dictionary.report.column] = shorten(
            words[dictionary.report.column],
            dictionary.report.characters,
            dictionary.report.informative,
        )
    return fill(choose(dictionary.templates, f"{key}/template"), words)


def fill(template: str, words: dict[str, str]) -> str:
    """Replace `{name}` by words and drop each `[clause]` that names a missing one."""

    def clause(match: re.Match[str]) -> str:
        names = re.findall(r"{(\w+)}", match[1])
        return match[1] if all(words.get(name) for name in names) else ""

    kept = re.sub(r"\[([^\]]*)\]", clause, template)
    text = re.sub(r"{(\w+)}", lambda match: words.get(match[1], ""), kept)
    text = re.sub(r"\s+", " ", text).replace(" ,", ",")
    return re.sub(r"(, )+(?=,)|,\s*$", "", text).strip(" ,")


def shorten(report: str, characters: int, informative: list[str]) -> str:
    """Whole sentences up to a length, those that speak of the image before the others.

    The chosen sentences keep their order in the report. A first sentence that is too long by
    itself is cut at a word.
    """
    text = re.sub(r"\s+", " ", report.replace("XXXX", "")).strip()
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", text) if s.strip(" .")]

    def dull(index: int) -> bool:
        return not any(word in sentences[index].lower() for word in informative)

    chosen: list[int] = []
    for index in sorted(range(len(sentences)), key=lambda i: (dull(i), i)):
        length = sum(len(sentences[i]) + 1 for i in [*chosen, index])
        if length <= characters:
            chosen.append(index)
    if not chosen and sentences:
        first = min(range(len(sentences)), key=lambda i: (dull(i), i))
        return sentences[first][:characters].rsplit(" ", 1)[0]
    return " ".join(sentences[i] for i in sorted(chosen))


def _spoken(value: Any, codes: dict[str, str | list[str] | None], key: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if text not in codes:
        return text
    words = codes[text]
    return choose(words, key) if isinstance(words, list) else words
