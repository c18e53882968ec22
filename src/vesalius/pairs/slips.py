"""What looks like a slip in how a source was read, so that no word is lost in silence."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from vesalius.core.labels import findings_of
from vesalius.core.words import nearest
from vesalius.pairs.captions import (
    Dictionary,
    SetDictionary,
    entries_that_know,
    entry_for,
    load_dictionary,
    named_columns,
    nearest_entries,
    needed_columns,
    with_dictionary_names,
)
from vesalius.pairs.compose import Draft
from vesalius.pairs.splits import names_patient, take_split

_BUNDLED = "mini"  # whose words the bundled model has learnt
_MASK = re.compile(
    r"(_|-|\b)(mask|seg|segmentation|label|groundtruth)s?(tr|ts)?([_\-./\d]|$)|[_-]gt\.",
    re.IGNORECASE,
)
# What patients are called in files' paths: patient00001, p10000032, sub-01, person7, 12_left.
_PATIENTS = (
    r"(?i)patient[-_ ]?\d+",
    r"(?i)(?<![a-z])(?:pat|person|subject)[-_ ]?\d+",
    r"(?<![A-Za-z0-9])sub-[0-9A-Za-z]+",
    r"(?<![A-Za-z0-9])p\d{4,}",
    r"(?<![A-Za-z0-9])[0-9A-Za-z]+(?=[-_](?i:left|right)\b)",
)
_FEW_IMAGES, _MANY_FOLDERS = 3, 8  # images of a folder, and folders, that look like patients


def find_slips(draft: Draft, dictionary: Dictionary) -> list[str]:
    """What looks like a slip in how a source was read: words for the first lines of the datasheet."""
    found, keys = [], draft.column("key")
    known = names_patient(draft.column("source"), draft.column("group"), draft.column("sha1"))
    columns = {name: draft.column(name) for name in ("label", *draft.attributes())}
    for source, rows in draft.by_source().items():
        entry = entry_for(dictionary, source) if source in dictionary or "*" in dictionary else None
        labels = frozenset().union(*map(findings_of, {columns["label"][row] for row in rows}))
        if entry:
            filled = [n for n, cells in columns.items() if any(cells[row] for row in rows)]
            slips = [
                *_missing_names(dictionary, entry, filled),
                *_unspoken_labels(dictionary, source, labels),
            ]
            found += [f"in {source}, {slip}" for slip in slips]
        masks = [row for row in rows if _MASK.search(keys[row])]
        if masks and len(masks) < len(rows):
            found.append(
                f"in {source}, {len(masks)} files are called like masks, such as "
                f"{keys[masks[0]]}: leave them out by --exclude if they are"
            )
        named = [(keys[row], columns["label"][row]) for row in rows]
        if slip := _folders_that_are_no_classes(named):
            found.append(f"in {source}, {slip}")
        if slip := _texts_apart(
            [k for k, _ in named], [k for s, k, _ in draft.skipped if s == source]
        ):
            found.append(f"in {source}, {slip}")
        if not any(known[row] for row in rows) and (slip := _patients_in([k for k, _ in named])):
            found.append(f"in {source}, {slip}")
    return found


def _texts_apart(keys: Sequence[str], skipped: Sequence[str]) -> str | None:
    """Texts that were left out and are called like images, or like the folders of images."""
    texts = {PurePosixPath(key).stem for key in skipped if key.lower().endswith(".txt")}
    paths = [PurePosixPath(key) for key in keys]
    count = sum(path.stem in texts or path.parent.name in texts for path in paths)
    if 2 * count <= len(keys):
        return None
    return (
        f"{len(texts):,} texts are called like images or their folders and are not read: write them beside "
        "the images under the same names, or into metadata.csv with the columns file_name and caption"
    )


def _patients_in(keys: Sequence[str]) -> str | None:
    """How patients are found in the paths, where they seem to be named there."""
    for pattern in _PATIENTS:
        names = [match[0] for key in keys if (match := re.search(pattern, key))]
        if 1 < len(set(names)) < len(names):
            return (
                f"the paths of {len(names):,} files hold {len(set(names)):,} names such as patients have: if "
                f"they are patients, give --group-pattern '{pattern}', so that no split cuts through one"
            )
    return None


def _folders_that_are_no_classes(named: Sequence[tuple[str, str | None]]) -> str | None:
    """What is odd about the folders that images (key, label) have their labels from, if they have."""
    folders = [take_split(key.split("/")[:-1])[1] for key, _ in named]
    labels = [label for _, label in named]
    if not all(
        folder and folder[-1] == label for folder, label in zip(folders, labels, strict=True)
    ):
        return None
    advice = "if these are no classes, write metadata.csv with the columns file_name and label"
    count = len(set(labels))
    if count == 1 and len(set(folders)) > 1:
        return f"every image lies in a folder {labels[0]!r}, and those above differ: {advice}"
    if count >= _MANY_FOLDERS and len(labels) <= _FEW_IMAGES * count:
        return f"{count:,} folders of a few images each are taken for labels: {advice}"
    return None


def fuller_captions(document: dict[str, Any]) -> str | None:
    """What to write for captions that say more than a label, where a bundled dictionary knows them.

    `document` is the datasheet of one source without a dictionary; None where nothing is to be said.
    """
    names = [label["name"] for label in document["labels"]]
    only_labels = document["captions"]["distinct"] <= len(names) and None not in names
    if document["options"]["captions"] or len(document["sources"]) > 1 or not only_labels:
        return None
    labels = frozenset().union(*map(findings_of, names))
    fitting = nearest_entries(load_dictionary(_BUNDLED), labels)
    if not fitting:
        return None
    return (
        f"the captions are the labels alone, as in {min(labels)!r}: where these are images of "
        f"{' or '.join(fitting)}, {fitting[0]}=PATH --captions {_BUNDLED} says what they show"
    )


def _missing_names(
    dictionary: Dictionary, entry: SetDictionary, filled: Sequence[str]
) -> Iterator[str]:
    """Columns that the dictionary names and no row has, with the one that may be meant."""
    has = with_dictionary_names(dict.fromkeys(filled, ""), entry)
    needed, spare = needed_columns(entry) - {"caption"}, []
    for name in sorted((needed | named_columns(entry)) - has.keys() - {"label"}):
        if meant := nearest(name, filled, 0.7):
            yield f"no image has {name!r}, which its captions should name: is {meant!r} meant?"
        elif name in needed:
            yield f"its captions should name its {name}, which no image has"
        elif len(dictionary) > 1 or "*" not in dictionary:
            spare.append(name)
    if "label" in needed and "label" not in has:
        yield "its captions should name its label, which no image has"
    if spare:
        yield f"no image has {', '.join(spare)}: what its captions would say of that is left out"


def _unspoken_labels(dictionary: Dictionary, source: str, labels: frozenset[str]) -> Iterator[str]:
    """Labels that captions say as they stand, since the source's entry has no words for them."""
    words = entry_for(dictionary, source).words.get("label", {})
    silent = not words and (source in dictionary or len(dictionary) == 1)
    if not labels or labels & words.keys() or silent:
        return
    some = ", ".join(sorted(labels)[:5])
    if source in dictionary:
        yield f"the dictionary lists none of its labels ({some})"
        return
    fitting = entries_that_know(dictionary, labels)
    hint = (
        f"{' and '.join(fitting[:3])} would fit: write {fitting[0]}=PATH"
        if fitting
        else f"there are {', '.join(name for name in dictionary if name != '*')}"
    )
    yield (
        f"the dictionary has no entry of this name, so its captions say the labels as they stand "
        f"({some}); {hint}"
    )
