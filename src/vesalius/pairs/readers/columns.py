"""Which column of somebody's table is the image, the caption, the label, the patient, the split."""

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from vesalius.core.labels import findings_of, join_findings, plain_name
from vesalius.core.words import nearest
from vesalius.errors import VesaliusError
from vesalius.images.dicom_header import years
from vesalius.pairs.settings import ReaderOptions

# In order of preference; compared without regard to case, spaces, hyphens and underscores.
USUAL = {
    "image": "image img jpg png file_name filename file image_path path image_id dicom_path"
    " image_index image_name img_name img_path image_filename filepath id_code isic_id dicom_id"
    " img_id image_file_path img_savename synthetic_filename uid",
    "caption": "caption text report prompt annotated_prompt description",
    "label": "label class diagnosis dx category target finding finding_labels labels labels_dict"
    " class_name diagnostic finding_categories pathology",
    "group": "patient_id patient subject_id subject lesion_id group participant_id person_id",
    "split": "split subset",
}
# What the dictionaries know by the first name, other people's tables by the others.
USUAL_ATTRIBUTES = {
    "view": "viewposition",
    "sex": "patientsex patientgender gender",
    "age": "patientage",
}
# Columns that may name the patient, and as often name the image: offered where their values repeat.
MAYBE_GROUP = (
    "id case case_id lesion study study_id study_instance_uid eye eye_id exam exam_id mrn uid"
)
NO_FINDING = "No Finding"
_NORMAL = {"nofinding", "nofindings", "normal"}  # a column, or a label, that rules all findings out
_YES = {"1", "true", "yes", "y"}
_NO = {"0", "false", "no", "n"}
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
MOST_LISTED = 100_000  # characters of a list written as text
_NOBODY = {"", "na", "unknown", "unk", "none", "missing", "notavailable", "anonymous", "anonymized"}
_MISSING = {
    "",
    "nan",
    "NaN",
    "null",
    "NULL",
    "None",
    "n/a",
    "N/A",
    "#N/A",
    "<NA>",
}  # `none` may be a class


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns by what they hold; None where there is none."""

    image: str | None
    caption: str | None
    label: str | None
    group: str | None
    split: str | None
    findings: tuple[str, ...] = ()  # columns that each say whether one finding is there
    normal: str | None = None  # a column that says that there is none, where `findings` lacks it
    one_of: bool = (
        False  # `findings` are classes, of which each row has one: none is no "No Finding"
    )


class Description(TypedDict):
    """What a row says of its image: arguments of `Found`."""

    label: str | None
    caption: str | None
    group: str | None
    split: str | None
    attributes: dict[str, str]


def find_columns(names: Sequence[str], options: ReaderOptions) -> Columns:
    """The columns that `options` name, and for the rest those with a usual name.

    A label column may be several, "Edema,Effusion", that say yes, no (1, true; 0, false) or neither.

    Raises VesaliusError for a name that stands twice or an option that names no column.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise VesaliusError(f"a column name stands twice: {', '.join(map(repr, twice))}: rename it")
    chosen: dict[str, Any] = {}
    plain = {plain_name(name): name for name in reversed(names)}  # the first of equals wins
    for role, usual in USUAL.items():
        asked = getattr(options, f"{role}_column")
        if role == "label" and asked and asked not in names and "," in asked:
            findings = tuple(part.strip() for part in asked.split(","))
            if unknown := [name for name in findings if name not in names]:
                raise _no_column(unknown[0], names)
            chosen["findings"], chosen["label"] = findings, None
            rest = [name for name in names if name not in findings]
            chosen["normal"] = next((name for name in rest if plain_name(name) in _NORMAL), None)
            continue
        if asked is not None and asked not in names:
            raise _no_column(asked, names)
        usual_names = (plain.get(plain_name(name)) for name in usual.split())
        chosen[role] = asked or next((name for name in usual_names if name), None)
    return Columns(**chosen)


def _no_column(asked: str, names: Sequence[str]) -> VesaliusError:
    near = nearest(asked, names, 0.5)
    hint = f" (did you mean {near!r}?)" if near else ""
    return VesaliusError(f"no column {asked!r}{hint}: there are {listed(names)}")


def listed(names: Sequence[str]) -> str:
    """Names for a message of one line, whatever they hold."""
    return ", ".join(" ".join(_sound(name).split()) for name in names) or "none"


def describe(row: Mapping[str, Any], columns: Columns) -> Description:
    """What a row says of its image; its cells as `attribute_text` gives them.

    The columns of the caption and of the group are attributes too, under their own names, because
    dictionaries build captions from `report` or `lesion_id`. Columns called `caption` and `group`
    have nothing to add. Findings that a row neither affirms nor denies are no findings and do not
    make it normal: a row that affirms none has no label then, and the attribute `uncertain` names
    those with a mark of their own, such as -1.
    """
    texts = {name: attribute_text(value) for name, value in row.items()}
    used = {columns.image, columns.label, columns.split}
    used |= {columns.caption, columns.group} & {"caption", "group"}

    def of(name: str | None) -> str | None:
        return None if name is None else texts.get(name)

    label = of(columns.label)
    if columns.label and (target := _target(row, columns.label)) is not None:
        label = target or None
    uncertain: list[str] = []
    if columns.findings:
        label, uncertain = _from_findings(texts, columns)
    elif columns.label and (marks := _marks(row[columns.label])):
        normal = next((name for name in marks if plain_name(name) in _NORMAL), None)
        findings = tuple(name for name in marks if name != normal)
        of_findings = replace(columns, findings=findings, normal=normal)
        label, uncertain = _from_findings(marks, of_findings)
    attributes = _attributes({name: t for name, t in texts.items() if t and name not in used})
    if uncertain:
        attributes["uncertain"] = "|".join(uncertain)
    return Description(
        label=label and canonical(label),
        caption=of(columns.caption),
        group=None if _is_nobody(of(columns.group)) else of(columns.group),
        split=of(columns.split),
        attributes=attributes,
    )


def _is_nobody(patient: str | None) -> bool:
    """Whether a cell says that the patient is not known; all such rows are not of one patient."""
    return patient == "-1" or re.sub(r"[\W_]", "", (patient or "").lower()) in _NOBODY


def canonical(label: str) -> str | None:
    """A label with its findings once each and in one order, so that `b| a` is the class `a|b`.

    That nothing was found is no finding beside others. None where it names none at all.
    """
    parts = findings_of(label)
    found = [part for part in parts if plain_name(part) not in _NORMAL]
    return join_findings(found or parts) or None


def _from_findings(
    texts: Mapping[str, str | None], columns: Columns
) -> tuple[str | None, list[str]]:
    """The label of a row with a column for each finding, and the findings that it is unsure of."""
    said = {name: (texts.get(name) or "").lower() for name in columns.findings}
    present = [name for name, text in said.items() if text in _YES]
    uncertain = [name for name, text in said.items() if text and text not in _YES | _NO]
    denied = all(text in _NO for text in said.values())
    normal = columns.normal is not None and (texts.get(columns.normal) or "").lower() in _YES
    if present:
        return "|".join(present), uncertain
    return (NO_FINDING if (denied and not columns.one_of) or normal else None), uncertain


def _marks(cell: Any) -> dict[str, str | None]:
    """A cell of findings and whether each is there, a mapping or its text; empty for other cells."""
    if isinstance(cell, str) and cell.strip()[:1] == "{" and len(cell) <= MOST_LISTED:
        for read in (json.loads, ast.literal_eval):  # `null` and double quotes, `None` and single
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                cell = read(
                    cell.strip().replace(": nan", ": NaN" if read is json.loads else ": None")
                )
                break
    marks = cell if isinstance(cell, dict) else {}
    return {str(name): attribute_text(mark) for name, mark in marks.items()}


def _target(row: Mapping[str, Any], column: str) -> str | None:
    """A list of zeros and ones as the names of the columns that hold the same; None for other cells."""
    values = row[column]
    if isinstance(values, str) and values.strip().startswith("["):
        values = as_list(values)
    values = list(values) if isinstance(values, list | tuple) else []
    marks = [attribute_text(value) for value in values]
    if len(marks) < 2 or not set(marks) <= {"0", "1"}:
        return None
    cells = {name: attribute_text(cell) for name, cell in row.items() if name != column}
    names = list(cells)
    for start in range(len(names) - len(marks) + 1):
        run = names[start : start + len(marks)]
        if [cells[name] for name in run] == marks:
            return "|".join(name for name, mark in zip(run, marks, strict=True) if mark == "1")
    return "|".join(f"{column} {place}" for place, mark in enumerate(marks) if mark == "1")


def one_hot(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Neighbouring columns of which every row marks exactly one by 1 and the others by 0; or none."""
    texts = [{name: attribute_text(row.get(name)) for name in names} for row in rows]
    marks = [name for name in names if {row[name] for row in texts} <= {"0", "1"}]
    runs: list[list[str]] = [[]]
    for name in names:
        if name in marks:
            runs[-1].append(name)
        elif runs[-1]:
            runs.append([])
    run = tuple(max(runs, key=len))
    one_each = all(sum(row[name] == "1" for name in run) == 1 for row in texts)
    return run if len(run) > 1 and one_each and texts else ()


def likely_findings(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Columns that hold 1, and else 0, -1 or nothing, where there are several; they may be findings."""
    cells = {name: {attribute_text(row.get(name)) for row in rows} for name in names}
    found = [n for n in names if "1" in cells[n] and cells[n] <= {"1", "0", "-1", None}]
    return tuple(name for name in found if "," not in name) if len(found) > 1 else ()


def as_list(text: str) -> list[Any] | None:
    """A list written as text, by Python, JSON or NumPy; None for other texts."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > MOST_LISTED:
        return None
    quoted = [a or b for a, b in _QUOTED.findall(text)]
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        values = quoted or text[1:-1].split(",")
    if not isinstance(values, list):
        return None
    # NumPy writes no commas, and Python joins what stands side by side: ['a' 'b']
    return quoted if len(quoted) > len(values) else values


def _attributes(texts: Mapping[str, str]) -> dict[str, str]:
    """By sound names; what has a usual name gets the one that the dictionaries know it by."""
    attributes = {_sound(name): text for name, text in texts.items()}
    plain = {plain_name(name): name for name in reversed(attributes)}
    for known, usual in USUAL_ATTRIBUTES.items():
        name = next((plain[other] for other in usual.split() if other in plain), None)
        if known not in attributes and name is not None:
            attributes[known] = attributes.pop(name)
    if age := years(attributes.get("age", "")):  # 058Y, as DICOM writes it
        attributes["age"] = age
    return attributes


def attribute_text(value: Any) -> str | None:
    """A cell as text, None where it says nothing (NaN and `null` say nothing).

    Whole floats lose their `.0`; lists, and texts that are a list of texts, are joined by `|`; what is
    nested deeper becomes JSON.
    """
    if (
        isinstance(value, str)
        and value.strip()[:1] == "["
        and value.strip()[1:2] in ("'", '"', "]")
    ):
        value = values if (values := as_list(value)) is not None else value
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


def _sound(text: str) -> str:
    """Without lone surrogates, which JSON may hold and no table or file takes."""
    return text.encode(errors="replace").decode()
