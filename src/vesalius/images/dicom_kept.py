"""What a DICOM image that is edited keeps of its file: how values are stored, shown and measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vesalius.images.dicom_pixels import file_window, functional_group, parse, stored_values
from vesalius.images.dicom_tags import number, numbers

_SHOWN = ("WindowCenter", "WindowWidth", "VOILUTFunction")
_SPACING = ("PixelSpacing", "ImagerPixelSpacing")


@dataclass(frozen=True)
class StoredGrey:
    """How grey of 8 or 16 full bits goes back to the values that a file stores."""

    bits: int  # BitsStored
    signed: bool
    falls: bool  # white is the least stored value
    slope: float = 1.0
    intercept: float = 0.0

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """`pixels`, uint8 or uint16 (H, W), as stored values, (u)int8 or (u)int16."""
        kind = ("int" if self.signed else "uint") + ("8" if pixels.dtype.itemsize == 1 else "16")
        return np.rint(self._exact(pixels)).astype(kind)

    def units(self, value: float, top: int) -> float:
        """A grey value of 0 to `top` in the file's units, of Hounsfield in CT."""
        return float(self._exact(np.array(value), top)) * self.slope + self.intercept

    def _exact(self, pixels: np.ndarray, top: int | None = None) -> np.ndarray:
        top = top or int(np.iinfo(pixels.dtype).max)
        share = pixels.astype(np.float64) / top
        share = 1 - share if self.falls else share
        return share * (2**self.bits - 1) - (2 ** (self.bits - 1) if self.signed else 0)


@dataclass(frozen=True)
class Kept:
    """Tags of a file that its edited copy has too; `grey` where its values can be kept as well."""

    tags: dict[str, Any] = field(default_factory=dict)
    grey: StoredGrey | None = None
    lost: str = ""  # why stored values could not be kept; none where they are, or nothing is lost

    def facts(self) -> dict[str, Any]:
        """As JSON, which `from_facts` reads."""
        return {
            "tags": {keyword: _plain(value) for keyword, value in self.tags.items()},
            "grey": self.grey and asdict(self.grey),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Kept":
        """What `facts` gave."""
        return cls(dict(facts["tags"]), facts["grey"] and StoredGrey(**facts["grey"]))


def kept_of(data: bytes, pixels: np.ndarray) -> Kept:
    """What the copy of the DICOM file `data` keeps; `pixels` is its image, decoded in full.

    The values are kept where every one of them comes back from `pixels`: not from colour, tables,
    or pixels that were made square. Spacing then is that of the new pixels.
    """
    dataset = parse(data)
    stored, _ = stored_values(dataset, None)
    tags: dict[str, Any] = {}
    measures = functional_group(dataset, 0, "PixelMeasuresSequence")
    for keyword in _SPACING:
        if spacing := numbers(measures if keyword == "PixelSpacing" else dataset, keyword, 2):
            ratios = zip(spacing, stored.shape[:2], pixels.shape[:2], strict=True)
            tags[keyword] = [f"{each * old / new:.10g}" for each, old, new in ratios]
    grey = _grey(dataset, stored)
    if pixels.shape[:2] != stored.shape[:2]:
        sizes = (f"{shape[1]}x{shape[0]}" for shape in (stored.shape, pixels.shape))
        lost = "its pixels are not square and were resized from {} to {}".format(*sizes)
        return Kept(tags, lost=lost)
    if grey is None or pixels.ndim != 2:
        return Kept(tags, lost=_lost(dataset, stored, pixels))
    if not np.array_equal(grey.values(pixels), stored):
        return Kept(tags, lost="not every value that it stores comes back from its grey")
    voi = functional_group(dataset, 0, "FrameVOILUTSequence")
    for keyword, where in (
        *((keyword, voi) for keyword in _SHOWN if file_window(voi)),
        *((keyword, dataset) for keyword in ("PhotometricInterpretation", "PresentationLUTShape")),
    ):
        if (value := where.get(keyword)) not in (None, ""):
            tags[keyword] = value
    if (grey.slope, grey.intercept) != (1, 0):
        tags |= {"RescaleSlope": f"{grey.slope:.10g}", "RescaleIntercept": f"{grey.intercept:.10g}"}
        tags["RescaleType"] = "HU" if dataset.get("Modality") == "CT" else "US"  # unspecified
    return Kept(tags, grey)


def _lost(dataset: Any, stored: np.ndarray, pixels: np.ndarray) -> str:
    """Why the values of colour, or of grey that is no plain number, cannot be kept."""
    bits = int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    if stored.ndim != 2 or pixels.ndim != 2:
        return f"its colour has {bits} bits, and 8 are written" if bits > 8 else ""
    if dataset.get("ModalityLUTSequence"):
        return "its grey goes through a modality table"
    return f"its grey is stored as {stored.dtype.name}"


def _plain(value: Any) -> str | list[str]:
    """A tag's value as text, or several as texts, from which DICOM's own types are made again."""
    is_list = not isinstance(value, str) and hasattr(value, "__iter__")
    return [str(one) for one in value] if is_list else str(value)


def _grey(dataset: Any, stored: np.ndarray) -> StoredGrey | None:
    if stored.ndim != 2 or stored.dtype.kind not in "iu" or dataset.get("ModalityLUTSequence"):
        return None
    units = functional_group(dataset, 0, "PixelValueTransformationSequence")
    slope, intercept = number(units, "RescaleSlope"), number(units, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    inverse = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    inverse = inverse or dataset.get("PresentationLUTShape") == "INVERSE"
    bits = int(dataset.get("BitsStored") or 8 * stored.dtype.itemsize)
    if not 0 < bits <= 16:
        return None
    return StoredGrey(bits, stored.dtype.kind == "i", inverse != (slope < 0), slope, intercept)
