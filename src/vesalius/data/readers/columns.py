"""Which column of somebody's table is the image, the caption, the label, the patient, the split."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from vesalius.data.readers.base import ReaderOptions
from vesalius.errors import VesaliusError

# In order of preference; compared without regard to case, spaces, hyphens and underscores.
USUAL = {
    "image": "image img jpg png file_name filename file image_path path image_id dicom_path"
    " image_index",
    "caption": "caption text report prompt description",
    "label": "label class diagnosis dx category target finding finding_labels",
    "group": "patient_id patient subject_id subject lesion_id group",
    "split": "split subset",
}
_MISSING = {"", "nan", "null", "none"}


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns by what they hold; None where there is none."""

    image: str | None
    caption: str | None
    label: str | None
    group: str | None
    split: str | None


def find_columns(names: Sequence[str], options: ReaderOptions) -> Columns:
    """The columns that `options` name, and for the rest those with a usual name.

    Raises VesaliusError for a name that stands twice or an option that names no column.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise VesaliusError(f"a column name stands twice: {', '.join(map(repr, twice))}: rename it")
    chosen = {}
    plain = {_plain(name): name for name in reversed(names)}  # the first of equals wins
    for role, usual in USUAL.items():
        asked = getattr(options, f"{role}_column")
        if asked is not None and asked not in names:
            near = get_close_matches(asked, names, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise VesaliusError(f"no column {asked!r}{hint}: there are {', '.join(names)}")
        usual_names = (plain.get(_plain(name)) for name in usual.split())
        chosen[role] = asked or next((name for name in usual_names if name), None)
    return Columns(**chosen)


def attribute_text(value: Any) -> str | None:
    """A cell as text, None where it says nothing (NaN and `null` say nothing).

    Whole floats lose their `.0`, lists are joined by `|`.
    """
    if isinstance(value, list | tuple):
        texts = [text for item in value if (text := attribute_text(item)) is not None]
        return "|".join(texts) or None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    text = "" if value is None else str(value).strip()
    return None if text.lower() in _MISSING else text


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")
