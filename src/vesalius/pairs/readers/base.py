"""What every reader gives: the images of a source, in a fixed order, none of them read yet.

A reader is a function `(source, options) -> Iterator[Found | Skipped | Note]`. It only lists:
`Found.load` is called later, from several threads, and may fail; what it raises becomes a skipped row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vesalius.images.pixels import Pixels
from vesalius.pairs.settings import ReaderOptions

__all__ = ["Found", "Item", "ReaderOptions", "Skipped", "file_stamp"]


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


@dataclass(frozen=True, slots=True)
class Note:
    """What a user should know of how a source was read; it stands for no image."""

    message: str


Item = Found | Skipped | Note


def file_stamp(path: Path) -> str:
    """Size and modification time of a file, for `Found.stamp`."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
