"""Numbers in a DICOM header, read as leniently as people write them: a broken tag costs a note."""

import math
from typing import Any

# Tags that say how an image is shown or where it lies; without them it can still be read.
OPTIONAL = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "PixelAspectRatio",
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "InstanceNumber",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "DiffusionBValue",
)
_NOT_ZERO = {
    "PixelSpacing",
    "ImagerPixelSpacing",
    "PixelAspectRatio",
    "WindowWidth",
    "RescaleSlope",
}
_SHOWN = 30  # characters of a broken tag


def numbers(dataset: Any, keyword: str, count: int | None = None) -> tuple[float, ...]:
    """The finite numbers of a tag, a decimal comma read as a point; () where there are none to use.

    `count` is how many there have to be. Zeros where only positive numbers have a meaning are none.
    """
    found = _numbers(dataset, keyword)
    if found is None or (count is not None and len(found) != count):
        return ()
    return () if keyword in _NOT_ZERO and not all(found) else found


def number(dataset: Any, keyword: str) -> float | None:
    """The first number of a tag; None where there is none to use."""
    return next(iter(numbers(dataset, keyword)), None)


def broken_tags(dataset: Any) -> list[str]:
    """A note for each tag of `OPTIONAL` that says something else than usable numbers."""
    notes = []
    for keyword in OPTIONAL:
        text = _text(dataset, keyword)
        if not text:
            continue
        if not (found := numbers(dataset, keyword)):
            notes.append(f"{keyword} {text[:_SHOWN]!r} is left out")
        elif "," in text:
            notes.append(f"{keyword} {text[:_SHOWN]!r} is read as {found[0]:g}")
    return notes


def _numbers(dataset: Any, keyword: str) -> tuple[float, ...] | None:
    parts = [part.strip() for part in _text(dataset, keyword).split("\\")]
    if parts == [""]:
        return ()
    try:
        found = tuple(float(part.replace(",", ".")) for part in parts)
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None


def _text(dataset: Any, keyword: str) -> str:
    """A tag's value as the file writes it, parts divided by a backslash; "" where it is empty."""
    if keyword not in dataset:
        return ""
    try:
        value = dataset.get(keyword)
    except Exception:  # not what its type demands: pydicom raises what it likes
        raw = dataset.get_item(keyword).value
        value = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    if value is None:
        return ""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).strip(" \0")
    return "\\".join(str(part) for part in value)
