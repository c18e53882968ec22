"""What every reader gives: the images of a source, in a fixed order, none of them read yet.

A reader is a function `(source, options) -> Iterator[Found | Skipped]`. It only lists: `Found.load`
is called later, from several threads, and may fail; what it raises becomes a skipped row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vesalius.images.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Found:
    """One image of a source and what the source says about it."""

    key: str  # unique in the source and stable: "melanoma/a.jpg", "part-0.parquet:12", "x.dcm#3"
    load: Callable[[], bytes | Pixels]  # an encoded image file of any format, or its pixels
    stamp: str = ""  # changes when the content may have: size and mtime of the file
    label: str | None = None
    caption: str | None = None
    group: str | None = None  # patient or lesion
    split: str | None = None  # as the source says it; any of its spellings
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row or file that gives no image, and why, in words that a user understands."""

    key: str
    reason: str
    stamp: str = ""


Item = Found | Skipped


@dataclass(frozen=True)
class ReaderOptions:
    """Options of all readers; each takes the ones that concern it.

    Column names are None where the reader should recognise the usual ones by itself.
    """

    image_column: str | None = None
    caption_column: str | None = None
    label_column: str | None = None  # or several, "Edema,Effusion", each saying whether it is there
    group_column: str | None = None
    split_column: str | None = None
    group_pattern: str | None = None  # regular expression: its match in a key is the patient
    exclude: tuple[str, ...] = ()  # glob patterns of keys to leave out: "*_mask.png"
    window: str = "auto"  # see io.pixels.parse_window
    bits: int = 8  # 8 or 16, of what deep images become
    slices: str = "all"  # of volumes, series and multi-frame files: see readers.slices
    plane: str = "axial"  # of volumes: axial, coronal, sagittal
    series: str | None = None  # only DICOM series whose description holds this, upper case or lower


def file_stamp(path: Path) -> str:
    """Size and modification time of a file, for `Found.stamp`."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
