"""From scanned parts to the rows of a pairs table: captions, groups, provenance; no pixels yet."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vesalius.errors import VesaliusError
from vesalius.pairs.captions import (
    Dictionary,
    SetDictionary,
    UnknownCode,
    caption,
    entry_for,
    with_dictionary_names,
)
from vesalius.pairs.deidentify import Deidentifier, without_identities
from vesalius.pairs.scan import is_of_pairs, open_part
from vesalius.pairs.tokens import TokenCounter

TEXT = ("source", "key", "label", "caption", "group", "split", "sha1", "symmetry", "mode", "notes")
# What names the patient of a row that is deidentified, a line each; it never comes into the table.
HIDDEN = "identities"
NUMBERS = ("row", "width", "height", "bits", "bytes", "part", "offset")
# An attribute of a source that is called like one of the table's own columns is left out.
RESERVED = {"image", "fold", HIDDEN, *TEXT, *NUMBERS}

Row = dict[str, Any]


@dataclass(frozen=True)
class Draft:
    """The rows of a table without their images, what was skipped, and where the images lie.

    `part` and `offset` of a row point into `parts`.
    """

    table: pa.Table
    skipped: list[tuple[str, str, str]] = field(default_factory=list)  # source, key, reason
    parts: list[Path] = field(default_factory=list)

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> list[Any]:
        """One column as a list."""
        return self.table[name].to_pylist()

    def with_column(self, name: str, values: Sequence[Any], kind: pa.DataType) -> "Draft":
        """The same with one column set."""
        array = pa.array(values, kind)
        if name in self.table.column_names:
            at = self.table.column_names.index(name)
            return replace(self, table=self.table.set_column(at, name, array))
        return replace(self, table=self.table.append_column(name, array))

    def without(self, dropped: dict[int, str]) -> "Draft":
        """The same without these rows, which are skipped for the reasons given."""
        if not dropped:
            return self
        sources, keys = self.column("source"), self.column("key")
        skipped = [(sources[i], keys[i], reason) for i, reason in sorted(dropped.items())]
        keep = pa.array([i for i in range(len(self)) if i not in dropped], pa.int64())
        return replace(self, table=self.table.take(keep), skipped=self.skipped + skipped)

    def attributes(self) -> list[str]:
        """The columns that came from the sources, in alphabetical order."""
        return sorted(name for name in self.table.column_names if name not in RESERVED)

    def by_source(self) -> dict[str, list[int]]:
        """The rows of each source."""
        rows: dict[str, list[int]] = defaultdict(list)
        for row, source in enumerate(self.column("source")):
            rows[source].append(row)
        return rows

    def by_part(self) -> Iterator[tuple[Path, int, int]]:
        """Each part that any row lies in, in the rows' order: its file, its first row here, and how many."""
        numbers = self.table["part"].to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(numbers)]):
            yield self.parts[numbers[start]], start, stop - start

    def image(self, index: int) -> bytes:
        """The encoded image of a row."""
        part, offset = (self.table[name][index].as_py() for name in ("part", "offset"))
        path = self.parts[part]
        return _open(path, path.stat().st_mtime_ns)["image"][offset].as_py()


@lru_cache(maxsize=64)
def _open(path: Path, changed: int) -> pa.Table:
    return open_part(path)


def compose(
    source: str,
    parts: list[Path],
    dictionary: Dictionary,
    counter: TokenCounter | None = None,
    group_pattern: str | None = None,
    deidentifier: Deidentifier | None = None,
) -> Draft:
    """Rows of one scanned source, captioned by its entry of the dictionary.

    Rows of a pairs table that merges several sources have each its own source's entry, unless
    `source` is the name of one. `counter` is the tokenizer that reports are shortened for; what `group_pattern`, a regular
    expression, finds in a key is the group; with a `deidentifier` attributes and captions are
    cleaned. Rows of a pairs table keep the group, source and row that they have. A source without a label or a caption in any row is called by its name.

    Raises VesaliusError where the pattern is none.
    """
    find_group = _group_finder(group_pattern)
    usual = entry_for(dictionary, source)
    unnamed = not any(_says(path, name) for path in parts for name in ("label", "caption"))
    words = {"source_words": source.replace("_", " ").replace("-", " ")} if unnamed else {}
    tables, skipped, first = [_table([])], [], 0
    renamed: dict[str, str] = {}
    for number, path in enumerate(parts):
        part = open_part(path)
        sizes = pc.call_function("binary_length", [part["image"]])
        light = part.drop_columns(["image", "thumb"]).append_column("bytes", sizes)
        rows = []
        for offset, scanned in enumerate(light.to_pylist()):
            place = {"row": first + offset, "part": number, "offset": offset}
            entry = usual if source in dictionary else dictionary.get(_merged(scanned), usual)
            scanned["group"] = find_group(scanned["key"]) or scanned["group"]
            row = _row(source, scanned, entry, counter, words, place, deidentifier)
            if isinstance(row, str):
                skipped.append((source, _name_of(scanned, deidentifier), row))
            else:
                rows.append(row)
        renamed |= _other_hashes(light)
        first += part.num_rows
        tables.append(_table(rows))
    draft = Draft(pa.concat_tables(tables, promote_options="default"), skipped, parts)
    groups = [renamed.get(group, group) for group in draft.column("group")]
    return draft.with_column("group", groups, pa.string())


def join(drafts: list[Draft], unread: Sequence[tuple[str, str, str]] = ()) -> Draft:
    """Several sources as one table, in order; `unread` are those that gave nothing, as skipped."""
    tables, skipped, parts = [_table([])], list(unread), []
    for draft in drafts:
        moved = draft.with_column(
            "part", [len(parts) + n for n in draft.column("part")], pa.int64()
        )
        tables.append(moved.table)
        skipped += draft.skipped
        parts += draft.parts
    return Draft(pa.concat_tables(tables, promote_options="default"), skipped, parts)


def _name_of(scanned: Row, deidentifier: Deidentifier | None) -> str:
    """The key of a row that is skipped, without the patient."""
    if deidentifier is None:
        return scanned["key"]
    identities = "\n".join(filter(None, [scanned["identities"], scanned["group"]]))
    return without_identities([scanned["key"]], [identities], deidentifier.pseudonyms)[0]


def _other_hashes(part: pa.Table) -> dict[str, str]:
    """Groups that are called by the hash of an image which has another one now: its metadata went."""
    renamed = {}
    for text, now in zip(part["attributes"].to_pylist(), part["sha1"].to_pylist(), strict=True):
        before = json.loads(text or "{}")
        if now and is_of_pairs(before) and before["sha1"] != now:
            renamed[f"{before['source']}/{before['sha1']}"] = f"{before['source']}/{now}"
    return renamed


def _merged(scanned: Row) -> str:
    """The source of a row of a pairs table; "" of any other."""
    attributes = json.loads(scanned["attributes"] or "{}")
    return attributes["source"] if is_of_pairs(attributes) else ""


def _says(path: Path, column: str) -> bool:
    part = open_part(path)
    return part[column].null_count < part.num_rows


def _group_finder(pattern: str | None) -> Callable[[str], str | None]:
    """Function of a key: the first group of `pattern` where it has one, else all that it matches."""
    if pattern is None:
        return lambda key: None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise VesaliusError(f"group pattern {pattern!r}: {error}") from error

    def find(key: str) -> str | None:
        match = compiled.search(key)
        return match[1 if compiled.groups else 0] if match else None

    return find


def _row(
    source: str,
    scanned: Row,
    entry: SetDictionary,
    counter: TokenCounter | None,
    words: dict[str, str],
    place: Row,
    deidentifier: Deidentifier | None,
) -> Row | str:
    """One row of the table, or the reason why there is none."""
    if scanned["reason"]:
        return scanned["reason"]
    if scanned["label"] in entry.drop:
        return f"the dictionary drops the label {scanned['label']!r}"
    attributes: dict[str, str] = json.loads(scanned["attributes"])
    is_pairs = is_of_pairs(attributes)
    name = (entry.group and attributes.get(entry.group)) or scanned["group"]
    hidden = None
    if deidentifier:
        if scanned["label"] and attributes.get("series_description") == scanned["label"]:
            del attributes["series_description"]  # it was chosen to be said, as the label
        patient = name.removeprefix(f"{attributes['source']}/") if is_pairs and name else name
        known = (scanned["identities"] or "").split("\n")
        cleaned = deidentifier.clean(attributes, scanned["caption"], [*known, patient])
        attributes, hidden = cleaned.attributes, "\n".join(cleaned.identities)
        notes = "; ".join(filter(None, [scanned["notes"], *cleaned.removed]))
        scanned = scanned | {"caption": cleaned.caption, "notes": notes}
    spoken = attributes | words | {name: scanned[name] for name in ("label", "caption")}
    spoken = with_dictionary_names(spoken, entry)
    try:
        text = caption(spoken, entry, scanned["sha1"], counter)
    except UnknownCode as error:
        return str(error)
    if not text:
        return _unsaid(attributes)
    own = {
        HIDDEN: hidden,
        "source": source,
        "symmetry": entry.symmetry,
        "caption": text,
        "group": name if is_pairs and name else f"{source}/{name or scanned['sha1']}",
    }
    kept = {key: scanned[key] for key in (*TEXT, *NUMBERS) if key in scanned}
    before = {key: attributes[key] for key in ("source", "symmetry", "key") if key in attributes}
    if is_pairs:
        if not 0 <= int(attributes["row"]) < 2**63:
            return f"its row {attributes['row'][:30]} is no place in a source"
        place = place | {"row": int(attributes["row"])}
    else:
        before = {}
    return {k: v for k, v in attributes.items() if k not in RESERVED} | kept | own | before | place


def _unsaid(attributes: Mapping[str, str]) -> str:
    if unsure := attributes.get("uncertain"):
        return f"no label and no text: the table is uncertain of {unsure.replace('|', ', ')}"
    return "no caption: the row has neither a label nor a text"


def _table(rows: list[Row]) -> pa.Table:
    names = sorted({name for row in rows for name in row} - RESERVED)
    texts = (*TEXT, HIDDEN)
    columns = {name: pa.array([row[name] for row in rows], pa.string()) for name in texts}
    columns |= {name: pa.array([row[name] for row in rows], pa.int64()) for name in NUMBERS}
    columns |= {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
    return pa.table(columns)
