"""Which column of somebody's table is the image, the caption, the label, the patient, the split."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypedDict

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.base import ReaderOptions

# In order of preference; compared without regard to case, spaces, hyphens and underscores.
USUAL = {
    "image": "image img jpg png file_name filename file image_path path image_id dicom_path"
    " image_index",
    "caption": "caption text report prompt description",
    "label": "label class diagnosis dx category target finding finding_labels",
    "group": "patient_id patient subject_id subject lesion_id group",
    "split": "split subset",
}
# What the dictionaries know by the first name, other people's tables by the others.
USUAL_ATTRIBUTES = {
    "view": "viewposition",
    "sex": "patientsex patientgender gender",
    "age": "patientage",
    "eye": "laterality",
}
NO_FINDING = "No Finding"
_YES = {"1", "true", "yes"}
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
_MISSING = {"", "nan", "NaN", "null", "NULL", "None"}  # `none` may be a class


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns by what they hold; None where there is none."""

    image: str | None
    caption: str | None
    label: str | None
    group: str | None
    split: str | None
    findings: tuple[str, ...] = ()  # columns that each say whether one finding is there


class Description(TypedDict):
    """What a row says of its image: arguments of `Found`."""

    label: str | None
    caption: str | None
    group: str | None
    split: str | None
    attributes: dict[str, str]


def find_columns(names: Sequence[str], options: ReaderOptions) -> Columns:
    """The columns that `options` name, and for the rest those with a usual name.

    A label column may be several, "Edema,Effusion", that say 1, true or yes where a finding is.

    Raises VesaliusError for a name that stands twice or an option that names no column.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise VesaliusError(f"a column name stands twice: {', '.join(map(repr, twice))}: rename it")
    chosen: dict[str, Any] = {}
    plain = {_plain(name): name for name in reversed(names)}  # the first of equals wins
    for role, usual in USUAL.items():
        asked = getattr(options, f"{role}_column")
        if role == "label" and asked and asked not in names and "," in asked:
            findings = tuple(part.strip() for part in asked.split(","))
            if unknown := [name for name in findings if name not in names]:
                raise VesaliusError(f"no column {unknown[0]!r}: there are {listed(names)}")
            chosen["findings"], chosen["label"] = findings, None
            continue
        if asked is not None and asked not in names:
            near = get_close_matches(asked, names, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise VesaliusError(f"no column {asked!r}{hint}: there are {listed(names)}")
        usual_names = (plain.get(_plain(name)) for name in usual.split())
        chosen[role] = asked or next((name for name in usual_names if name), None)
    return Columns(**chosen)


def listed(names: Sequence[str]) -> str:
    """Names for a message of one line, whatever they hold."""
    return ", ".join(" ".join(_sound(name).split()) for name in names) or "none"


def describe(row: Mapping[str, Any], columns: Columns) -> Description:
    """What a row says of its image; its cells as `attribute_text` gives them.

    The columns of the caption and of the group are attributes too, under their own names, because
    dictionaries build captions from `report` or `lesion_id`. Columns called `caption` and `group`
    have nothing to add.
    """
    texts = {name: attribute_text(value) for name, value in row.items()}
    used = {columns.image, columns.label, columns.split}
    used |= {columns.caption, columns.group} & {"caption", "group"}

    def of(name: str | None) -> str | None:
        return None if name is None else texts.get(name)

    present = [name for name in columns.findings if str(texts.get(name)).lower() in _YES]
    return Description(
        label=("|".join(present) or NO_FINDING) if columns.findings else of(columns.label),
        caption=of(columns.caption),
        group=of(columns.group),
        split=of(columns.split),
        attributes=_attributes({name: t for name, t in texts.items() if t and name not in used}),
    )


def _attributes(texts: Mapping[str, str]) -> dict[str, str]:
    """By sound names; what has a usual name gets the one that the dictionaries know it by."""
    attributes = {_sound(name): text for name, text in texts.items()}
    plain = {_plain(name): name for name in reversed(attributes)}
    for known, usual in USUAL_ATTRIBUTES.items():
        name = next((plain[other] for other in usual.split() if other in plain), None)
        if known not in attributes and name is not None:
            attributes[known] = attributes.pop(name)
    return attributes


def attribute_text(value: Any) -> str | None:
    """A cell as text, None where it says nothing (NaN and `null` say nothing).

    Whole floats lose their `.0`, lists are joined by `|`; what is nested deeper becomes JSON.
    """
    if _is_nested(value):
        return _sound(json.dumps(value, ensure_ascii=False, default=str))
    if isinstance(value, list | tuple):
        texts = [text for item in value if (text := attribute_text(item)) is not None]
        return "|".join(texts) or None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    text = "" if value is None else _sound(str(value).strip())
    text = _WHOLE.sub(r"\1", text)  # 63.0 in a CSV is the same as in a table with numbers
    return None if text in _MISSING else text


def _is_nested(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else ()
    return isinstance(value, dict) or any(isinstance(item, dict | list | tuple) for item in items)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


def _sound(text: str) -> str:
    """Without lone surrogates, which JSON may hold and no table or file takes."""
    return text.encode(errors="replace").decode()
