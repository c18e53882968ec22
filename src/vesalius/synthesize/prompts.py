"""What a planned image is asked for by: captions of real images, or captions composed anew.

Those composed anew are made by `pairs.captions`, as the training images' own are: from a prompt
dictionary or templates, and the attributes of one real image of the class, all of them together, so
that age, sex and site go together as they do in reality.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count, product
from typing import Any

from vesalius.errors import VesaliusError
from vesalius.pairs.captions import SetDictionary, UnknownCode, caption, needed_columns
from vesalius.synthesize.classes import RealClass, nearest
from vesalius.synthesize.plan import COLUMNS

Prompt = tuple[str, dict[str, str]]  # the text, and the attributes that it speaks of
Row = dict[str, Any]
Asked = Mapping[str, Sequence[str]]  # attribute to the values that the images take in turn

_AND = re.compile(r"\bAND\b")
_FIELD = re.compile(r"{(\w+)}")
_FREE_TEXT = {"caption", "report", "findings", "impression"}
_BOOKKEEPING = {"group", "split", "row", "sha1", "key", "symmetry", "width", "height", "bits"}
_NOT_ATTRIBUTES = {"label_words", "source", "source_words", *COLUMNS} | _FREE_TEXT | _BOOKKEEPING


def hashed(*parts: Any) -> int:
    """A number of 64 bits, the same for equal `parts` on every machine."""
    return int.from_bytes(sha256(json.dumps(parts).encode()).digest()[:8])


def parse_attributes(texts: Sequence[str]) -> dict[str, list[str]]:
    """`["age=60", "sex=female,male"]` as names and values; a value with a comma stands in quotes.

    Raises VesaliusError for what is not like that.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        cells = [cell.strip() for cell in next(csv.reader([values], skipinitialspace=True), [])]
        if not name.strip() or not cells or not all(cells):
            raise VesaliusError(f"--attribute {text!r}: write it like age=60 or sex=female,male")
        found.setdefault(name.strip(), []).extend(cells)
    return found


def as_text(prompt: str) -> str:
    """The same words without AND in capitals, which composes prompts and a report may hold."""
    return _AND.sub("and", prompt).strip()


def real_captions(real: RealClass, seed: int) -> Iterator[Prompt]:
    """The captions of a class without end: all of them in a random order, then in another one."""
    rows = [row for row in real.rows(("caption", "sha1")) if (row["caption"] or "").strip()]
    if not rows:
        raise VesaliusError(f"no training image of {real.name} has a caption: --exclude it")
    for row in _reshuffled(rows, seed, real):
        yield as_text(row["caption"]), {}


def composed_captions(
    real: RealClass, entry: SetDictionary, seed: int, asked: Asked
) -> Iterator[Prompt]:
    """Captions of a class without end, by the templates and words of `entry`.

    Each has the attributes of one real image, taken as in `real_captions`, but for those `asked`,
    whose values (or combinations of values) take turns; a template that cannot say what is asked is
    not used. Raises VesaliusError where none can, or where words for a code are missing.
    """
    composer = Composer(real, entry, asked)
    turns = [dict(zip(asked, values, strict=True)) for values in product(*asked.values())]
    rows = [row for row in composer.rows() if composer.usable(row | turns[0], "")]
    if not rows:
        raise composer.no_words(turns[0])
    for number, row in zip(count(), _reshuffled(rows, seed, real)):
        key = f"{hashed(seed, real.source, real.label, number)}"  # chooses phrasing and synonyms
        yield composer.compose(row, turns[number % len(turns)], key)


@dataclass(frozen=True)
class Composer:
    """One class and the words for it."""

    real: RealClass
    entry: SetDictionary
    asked: Asked

    def rows(self) -> list[dict[str, Any]]:
        """What captions are composed from: the columns of each image that they may need."""
        needed = fields_of(self.entry) | {"label", "sha1"}
        needed |= _FREE_TEXT if self.entry.report else set()
        plain = self.real.source.replace("_", " ").replace("-", " ")
        return [row | {"source_words": plain} for row in self.real.rows(needed)]

    def usable(self, row: Row, key: str) -> SetDictionary | None:
        """The entry with only the templates that say all that is asked; None if there is none."""
        if not self.asked:
            return self.entry
        each = [self.entry.model_copy(update={"templates": [t]}) for t in self.entry.templates]
        able = [one.templates[0] for one in each if self.said(row, one, key) >= self.asked.keys()]
        return self.entry.model_copy(update={"templates": able}) if able else None

    def compose(self, row: Row, turn: dict[str, str], key: str) -> Prompt:
        """A caption of `row` with what is asked for in this `turn`, and the attributes it states."""
        row = row | turn
        entry = self.usable(row, key)
        text = self._caption(row, entry, key) if entry else ""
        if not entry or not text:
            raise self.no_words(turn)
        said = {name: str(row[name]) for name in sorted(self.said(row, entry, key))}
        on_purpose = any(_AND.search(template) for template in entry.templates)
        return text if on_purpose else as_text(text), said

    def said(self, row: Row, entry: SetDictionary, key: str) -> set[str]:
        """The attributes without which the caption would be another."""
        text = self._caption(row, entry, key)
        names = [name for name in fields_of(entry) - _NOT_ATTRIBUTES if row.get(name)]
        return {name for name in names if self._caption(row | {name: ""}, entry, key) != text}

    def no_words(self, turn: Mapping[str, str]) -> VesaliusError:
        """The error where no template has words for a class or for what is asked."""
        what = " and ".join(f"{name}={value}" for name, value in turn.items()) or "anything"
        return VesaliusError(
            f"no template for {self.real.name} can say {what}: "
            + "; ".join(repr(template) for template in self.entry.templates)
        )

    def _caption(self, row: Row, entry: SetDictionary, key: str) -> str:
        try:
            return caption(row, entry, key)
        except UnknownCode as error:
            raise VesaliusError(f"{self.real.name}: {error}") from error


def fields_of(entry: SetDictionary) -> set[str]:
    """All that the templates name in braces."""
    return {name for template in entry.templates for name in _FIELD.findall(template)}


def check_entry(
    entry: SetDictionary, classes: Sequence[RealClass], asked: Asked, *, all_fields: bool = False
) -> list[str]:
    """Check an entry, and what is asked, against the classes of one source; return warnings.

    Raises VesaliusError for a class that the entry drops, and, naming the nearest, for an attribute
    that no template names and a field that no image has (with `all_fields` those in [brackets] too).
    """
    source = classes[0].source
    for real in classes:
        if real.label in entry.drop:
            raise VesaliusError(f"the dictionary drops the label {real.label!r}: --exclude it")
    known = sorted(fields_of(entry) - _NOT_ATTRIBUTES)
    for name in asked:
        if name not in known:
            raise VesaliusError(
                f"the captions of {source} name no {name!r}: {nearest(name, known)}; --source and "
                "--include choose among the sources, --template gives other words"
            )
    own = ("label_words", "source_words", *([entry.report.name] if entry.report else []))
    has = sorted({n for real in classes for n in real.table.column_names if real.values(n)})
    needed = fields_of(entry) if all_fields else needed_columns(entry)
    for name in sorted(needed - {*has, *asked, *own}):
        raise VesaliusError(
            f"the captions of {source} need {name!r}, which no training image has: "
            + nearest(name, sorted({*has, *own} - _BOOKKEEPING))
        )
    warnings = [
        f"no training image of {source} has the {name} {value!r}, which is said as it is: "
        + nearest(value, sorted(codes))
        for name, values in asked.items()
        for codes in [set[str]().union(*(real.values(name) for real in classes))]
        for value in values
        if codes and value not in codes | entry.words.get(name, {}).keys() and not _is_number(value)
    ]
    for name in sorted(needed_columns(entry) & set(has) - asked.keys() if all_fields else ()):
        if lacking := sum(real.lacking(name) for real in classes):
            warnings.append(
                f"{lacking:,} training images of {source} have no {name}: put what stands around it "
                f"in brackets, as in [, {{{name}}}], to leave that out"
            )
    return warnings


def _reshuffled(rows: Sequence[Row], seed: int, real: RealClass) -> Iterator[Row]:
    """`rows` in a random order, again and again, each time in another order.

    The order follows from each row's image alone: rows that are added move no others about.
    """
    for cycle in count():
        ranks = [hashed(seed, real.source, real.label, cycle, row["sha1"]) for row in rows]
        yield from (rows[k] for k in sorted(range(len(rows)), key=ranks.__getitem__))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
