"""Prompt dictionaries: label codes and attributes become the words that a model is trained on.

EyeDiff and MediSyn both build their captions from label codes this way; the dictionary is a YAML
file (its format is explained at the top of `dictionaries/mini.yaml`, and what came later at the top
of `dictionaries/medisyn.yaml`).
"""

import hashlib
import re
from collections.abc import Collection
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vesalius.core.documents import read_yaml
from vesalius.core.labels import plain_name, split_label
from vesalius.errors import VesaliusError
from vesalius.pairs import reports
from vesalius.pairs.tokens import TokenCounter, load_counter

Row = dict[str, Any]
Words = str | list[str] | None

_NAME = re.compile(r"{(\w+)}")
_TEMPLATE = re.compile(r"(?:[^\[\]{}]|{\w+}|\[(?:[^\[\]{}]|{\w+})*\])*")
_RANGE = re.compile(r"(-?[\d.]+?)?\.\.(-?[\d.]+)?")


# DICOM's codes for the kinds of image that are common enough to have a name.
_MODALITIES = {
    "CR": "X-ray",
    "DX": "X-ray",
    "MG": "mammogram",
    "CT": "CT",
    "MR": "MRI",
    "US": "ultrasound",
    "PT": "PET",
    "NM": "nuclear medicine image",
    "OP": "fundus photograph",
    "OPT": "optical coherence tomography",
    "ES": "endoscopy",
    "GM": "microscopy",
    "SM": "slide microscopy",
    "XA": "angiogram",
    "RF": "fluoroscopy",
}


class UnknownCode(ValueError):
    """A row has a code that its dictionary must list and does not; the message names the nearest."""


class Report(BaseModel):
    """Which column holds free text, and how it is shortened to whole sentences.

    `tokens` is the most that the whole caption may have in the tokenizer of `encoder` (or of the
    text encoder that `caption` is given), special tokens included; `characters` is the report's
    own length. Without a `column`, findings and impression are taken where the row has them, else
    its report, else the source's own caption, and templates call it {report}.
    """

    model_config = ConfigDict(extra="forbid")
    column: str | None = None
    characters: int | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=2)
    encoder: str = "mini"
    informative: list[str] = []

    @model_validator(mode="after")
    def _one_length(self) -> "Report":
        if (self.characters is None) == (self.tokens is None):
            raise ValueError("give either characters or tokens")
        return self

    @property
    def name(self) -> str:
        """What templates call the shortened text."""
        return self.column or "report"


class SetDictionary(BaseModel):
    """How one set's rows become captions."""

    model_config = ConfigDict(extra="forbid")
    templates: list[str] = Field(min_length=1)
    words: dict[str, dict[str, Words]] = {}
    closed: list[str] = []
    group: str | None = None
    drop: list[str] = []
    symmetry: Literal["none", "square"] = "none"
    report: Report | None = None

    @field_validator("templates")
    @classmethod
    def _well_formed(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if not _TEMPLATE.fullmatch(template):
                raise ValueError(f"{template!r} has a bracket or brace too many, or one in another")
        return templates

    @model_validator(mode="after")
    def _closed_columns_have_words(self) -> "SetDictionary":
        if missing := [column for column in self.closed if column not in self.words]:
            raise ValueError(f"closed names {missing[0]!r}, which has no entry in words")
        return self


Dictionary = dict[str, SetDictionary]


class _CodeLoader(yaml.SafeLoader):
    """YAML in which codes stay as written: `no`, `010` and `2020-01-01` are text; null is null."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (the name and type are PyYAML's)
        first: [(tag, match) for tag, match in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.value != "<<"]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands twice")
        return super().construct_mapping(node, deep)


def load_dictionary(name: str) -> Dictionary:
    """Read a bundled dictionary by name or any YAML file by path.

    Raises VesaliusError that names the field at fault.
    """
    folder = Path(str(files("vesalius.pairs"))) / "dictionaries"
    source = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not source.is_file():
        known = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())
        raise VesaliusError(
            f"no prompt dictionary {name!r}: give a .yaml file or one of {', '.join(known)}"
        )
    try:
        parsed = read_yaml(source, _CodeLoader)
        if not isinstance(parsed, dict) or not parsed:
            raise ValueError("it should map the name of each set to its templates and words")
        return {key: _entry(key, value) for key, value in parsed.items()}
    except (VesaliusError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise VesaliusError(f"the prompt dictionary {name} is not valid: {reason}") from error


def _entry(name: str, value: Any) -> SetDictionary:
    try:
        return SetDictionary.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in (name, *first["loc"]))
        raise ValueError(f"{field}: {first['msg'].removeprefix('Value error, ')}") from error


def default_dictionary() -> Dictionary:
    """What is said without a dictionary: the source's own caption, else the label's words.

    A row that has neither is called what its DICOM tags say it is, or at last by its source.
    """
    known = (
        "{body_part} {modality}, {series_description}|{modality}, {series_description}"
        "|{body_part} {modality}|{modality}"
    )
    template = f"[{{caption}}|{{label_words}}|{known}|{{source_words}}]"
    return {"*": SetDictionary(templates=[template], words={"modality": dict(_MODALITIES)})}


def entry_for(dictionary: Dictionary, source: str) -> SetDictionary:
    """The entry of a source: by its name, else `*`, else the only one there is.

    Raises VesaliusError that lists the entries.
    """
    if entry := dictionary.get(source) or dictionary.get("*"):
        return entry
    if len(dictionary) == 1:
        return next(iter(dictionary.values()))
    raise VesaliusError(
        f"the dictionary has no entry for {source!r}: it has {', '.join(dictionary)}; write "
        "ENTRY=PATH, or add an entry '*' that takes all others"
    )


def needed_columns(entry: SetDictionary) -> set[str]:
    """The columns that templates name outside of [brackets]: one that no row has is a slip."""
    bare = [re.sub(r"\[[^\]]*\]", "", template) for template in entry.templates]
    names = {name for template in bare for name in _NAME.findall(template)}
    if "label_words" in names:
        names = names - {"label_words"} | {"label"}
    return names - ({"report"} if entry.report and not entry.report.column else set())


def named_columns(entry: SetDictionary) -> set[str]:
    """All columns that an entry names, in optional clauses too; not what every row has in some way."""
    names = {name for template in entry.templates for name in _NAME.findall(template)}
    return (names | set(entry.words)) - {"caption", "label_words", "report", "source_words"}


def with_dictionary_names(row: Row, entry: SetDictionary) -> Row:
    """The row, its columns also under the names that the entry has for them in other case.

    What an entry calls `eye` may be the row's `laterality`, which of a mammogram is no eye.
    """
    missing = named_columns(entry) - row.keys()
    if not missing:
        return row
    plain = {plain_name(name): name for name in row}
    if "laterality" in plain:
        plain.setdefault("eye", plain["laterality"])
    found = {name: plain[low] for name in missing if (low := plain_name(name)) in plain}
    return {**row, **{name: row[column] for name, column in found.items()}}


def entries_that_know(dictionary: Dictionary, labels: Collection[str]) -> list[str]:
    """The entries, but for `*`, that have words for all of these labels."""
    return [
        name
        for name, entry in dictionary.items()
        if name != "*" and labels and set(labels) <= entry.words.get("label", {}).keys()
    ]


def nearest_entries(dictionary: Dictionary, labels: Collection[str]) -> list[str]:
    """The entries, but for `*`, that have words for most of these labels, and for half at least."""
    known = {
        name: len(set(labels) & entry.words.get("label", {}).keys())
        for name, entry in dictionary.items()
        if name != "*"
    }
    most = max(known.values(), default=0)
    return [name for name, n in known.items() if n == most and 0 < len(labels) <= 2 * most]


def choose(options: list[str], key: str) -> str:
    """One option, the same for the same key on every machine and in every version of Python."""
    digest = hashlib.sha256(key.encode()).digest()
    return options[int.from_bytes(digest[:8]) % len(options)]


def caption(
    row: Row, dictionary: SetDictionary, key: str, counter: TokenCounter | None = None
) -> str:
    """Caption of one row; `key` (the image's hash) chooses among phrasings and synonyms.

    `counter` is the text encoder chosen, for a report that is shortened to tokens. Raises
    UnknownCode for a code that a closed column does not list.
    """
    report = dictionary.report
    free_text = {"caption", "label_words", *([report.name] if report else [])}
    words: dict[str, str] = {}
    for column, value in row.items():
        codes = dictionary.words.get(column, {})
        spoken = _spoken(
            value,
            codes,
            f"{key}/{column}",
            several=column not in free_text,
            closed=column if column in dictionary.closed else None,
        )
        if spoken:
            words[column] = spoken
    if "label" in words:
        words["label_words"] = _plain_label(words["label"])
    template = choose(dictionary.templates, f"{key}/template")
    if report and (text := _report_text(report, words)):
        words[report.name] = text
        words[report.name] = _shortened(report, template, words, counter)
    return fill(template, words)


def columns_of(template: str) -> list[str]:
    """The columns that a template names."""
    return _NAME.findall(template)


def fill(template: str, words: dict[str, str]) -> str:
    """Replace `{name}` by words and drop each `[clause]` that names a missing one.

    A clause may have alternatives, `[this {name}|that {other}]`: the first that can be said is.
    """

    def clause(match: re.Match[str]) -> str:
        for option in match[1].split("|"):
            if all(words.get(name) for name in _NAME.findall(option)):
                return option
        return ""

    kept = re.sub(r"\[([^\]]*)\]", clause, template)
    text = _NAME.sub(lambda match: words.get(match[1], ""), kept)
    text = re.sub(r"\s+", " ", text).replace(" ,", ",")
    return re.sub(r"(,\s*)+(?=,)|,\s*$", "", text).strip(" ,")


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


def _report_text(report: Report, words: dict[str, str]) -> str:
    if report.column:
        return words.get(report.column, "")
    parts = [name for name in ("findings", "impression") if name in words]
    if parts:
        return "\n".join(f"{name.upper()}:\n{words[name]}" for name in parts)
    return words.get("report") or words.get("caption", "")


def _shortened(
    report: Report, template: str, words: dict[str, str], counter: TokenCounter | None
) -> str:
    text = words[report.name]
    if report.characters is not None:
        return shorten(text, report.characters, report.informative)
    counter = counter or load_counter(report.encoder)
    most = report.tokens or counter.window

    def fits(part: str) -> bool:
        return counter.count(fill(template, words | {report.name: part})) <= most

    return reports.shorten(text, fits, report.informative)


def _spoken(
    value: Any, codes: dict[str, Words], key: str, *, several: bool, closed: str | None
) -> str | None:
    """Words of a cell, which may hold several codes as "a|b"; None where it says nothing."""
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    parts = [text]
    if several and "|" in text and text not in codes:
        parts = split_label(text)
    said = [_one(part, codes, key, closed) for part in dict.fromkeys(parts)]
    said = [words for words in dict.fromkeys(said) if words]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said) or None


def _one(code: str, codes: dict[str, Words], key: str, closed: str | None) -> str | None:
    listed = code if code in codes else _range_of(code, codes)
    if listed is None:
        if closed is None:
            return code
        near = get_close_matches(code, codes, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else f"it has {', '.join(list(codes)[:8])}"
        raise UnknownCode(f"{closed} {code!r} is not in the dictionary ({hint})")
    words = codes[listed]
    return choose(words, key) if isinstance(words, list) else words


def _range_of(code: str, codes: dict[str, Words]) -> str | None:
    """The first key like `0..17`, `..5` or `65..` that a number lies in, both ends included."""
    ranges = [match for listed in codes if (match := _RANGE.fullmatch(listed))]
    try:
        number = float(code) if ranges else 0.0
        for match in ranges:
            low, high = float(match[1] or "-inf"), float(match[2] or "inf")
            if low <= number <= high:
                return match[0]
    except ValueError:  # the code, or a key that only looks like a range, is no number
        return None
    return None


def _plain_label(label: str) -> str:
    """`basal_cell-carcinoma` as words; the hyphens of COVID-19 and x-ray stay."""
    spaced = re.sub(r"_+|(?<=[^\W\d]{2})-(?=[^\W\d]{2})", " ", label)
    return " ".join(spaced.split())


def bundled_words() -> list[str]:
    """The words that the bundled dictionaries can put into a caption, and their templates' own."""
    folder = files("vesalius.pairs") / "dictionaries"
    names = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())
    return list(dict.fromkeys(word for name in names for word in words_of(load_dictionary(name))))


def words_of(dictionary: Dictionary) -> list[str]:
    """The words that a dictionary can put into a caption, and its templates' own."""
    found: dict[str, None] = {}
    for entry in dictionary.values():
        found |= dict.fromkeys(_NAME.sub(" ", template) for template in entry.templates)
        for words in (one for column in entry.words.values() for one in column.values()):
            found |= dict.fromkeys([words] if isinstance(words, str) else words or [])
    return list(found)
