"""Sets of images to measure: pairs tables, synthetic folders with their manifest, any other source.

`survey` reads each file once, without decoding it: its content hash, by which features are kept,
and what would make a comparison unfair (sizes, grey against colour, JPEG against PNG).
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.pixels import BadImage

_SHOWN = 3  # of files that cannot be read, by name


class ImageSet:
    """Images in a fixed order, each read by a function of its own; may be read from several threads.

    A table that reads its images in another way, such as `Pairs`, overrides the three methods.
    """

    def __init__(
        self,
        loads: Sequence[Callable[[], bytes]],
        columns: Mapping[str, list[str]] | Callable[[str], list[str]] = MappingProxyType({}),
    ) -> None:
        """`columns` are values row for row by name, or a function that finds those of a name."""
        self._loads, self._columns = loads, columns

    def __len__(self) -> int:
        return len(self._loads)

    def encoded(self, index: int) -> bytes:
        """The image file. May raise VesaliusError or OSError."""
        return self._loads[index]()

    def column(self, name: str) -> list[str]:
        """What is said of each image: `label`, `caption`, `group` or `source`; "" if nothing."""
        if callable(self._columns):
            return self._columns(name)
        return self._columns.get(name) or [""] * len(self)

    def take(self, rows: Sequence[int]) -> "ImageSet":
        """Some of the images, such as a split."""

        def column(name: str) -> list[str]:
            whole = self.column(name)
            return [whole[row] for row in rows]

        return ImageSet([partial(self.encoded, row) for row in rows], column)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """The images of several sets, one set after the other."""
    loads = [partial(each.encoded, row) for each in sets for row in range(len(each))]
    return ImageSet(loads, lambda name: [value for each in sets for value in each.column(name)])


@dataclass(frozen=True)
class Survey:
    """What is known of a set before any pixel is decoded; row for row."""

    keys: list[str]  # SHA-1 of the file, "" where it could not be read
    sizes: list[tuple[int, int]]  # width, height
    modes: list[str]  # Pillow's: L is grey
    formats: list[str]  # JPEG, PNG, ...
    unreadable: dict[int, str] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """What a reader of the figures must know: unreadable files, mixed sizes, modes, formats."""
        found = []
        if self.unreadable:
            some = ", ".join(
                f"row {k} ({why})" for k, why in list(self.unreadable.items())[:_SHOWN]
            )
            found.append(
                f"{len(self.unreadable)} of {len(self.keys)} images cannot be read: {some}"
            )
        for what, values in (
            ("sizes", [f"{w}x{h}" for w, h in self._read(self.sizes)]),
            ("modes", self._read(self.modes)),
            ("formats", self._read(self.formats)),
        ):
            if len(counts := Counter(values)) > 1:
                most = ", ".join(f"{name} {count}" for name, count in counts.most_common(4))
                found.append(f"mixed {what}: {most}{', ...' if len(counts) > 4 else ''}")
        if twice := len(keys := self._read(self.keys)) - len(set(keys)):
            found.append(f"{twice} images repeat another one of the set, byte for byte")
        return found

    def _read(self, values: Sequence[Any]) -> list[Any]:
        return [value for k, value in enumerate(values) if k not in self.unreadable]


def unfair(real: Survey, synthetic: Survey) -> list[str]:
    """Why figures of the two sets do not say what they seem to; empty where nothing was found."""
    found = []
    if both := set(real.keys) & set(synthetic.keys) - {""}:
        found.append(f"{len(both)} files are in the real and in the synthetic set, byte for byte")
    for what, of in (("format", "formats"), ("mode", "modes"), ("size", "sizes")):
        most = [Counter(s._read(getattr(s, of))).most_common(1) for s in (real, synthetic)]
        if all(most) and (ours := most[0][0][0]) != (theirs := most[1][0][0]):
            names = ["x".join(map(str, v)) if isinstance(v, tuple) else v for v in (ours, theirs)]
            found.append(f"most real images have the {what} {names[0]}, most synthetic {names[1]}")
    return found


def survey(images: ImageSet, workers: int = 8) -> Survey:
    """Read every file once and look at its header. Files that cannot be read are listed; nothing is raised."""
    with ThreadPoolExecutor(workers) as pool:
        seen = list(pool.map(lambda index: _look(images, index), range(len(images)), chunksize=16))
    bad = {k: why for k, (_, _, _, _, why) in enumerate(seen) if why}
    return Survey([s[0] for s in seen], [s[1] for s in seen], [s[2] for s in seen],
                  [s[3] for s in seen], bad)  # fmt: skip


def _look(images: ImageSet, index: int) -> tuple[str, tuple[int, int], str, str, str]:
    """Hash, size, mode, format and, where it cannot be read, the reason."""
    try:
        data = images.encoded(index)
        with Image.open(io.BytesIO(data)) as image:
            size, mode, kind = image.size, image.mode, image.format or ""
    except (VesaliusError, BadImage) as error:
        return "", (0, 0), "", "", str(error)
    except Exception as error:  # missing files, damaged headers: Pillow raises anything
        return "", (0, 0), "", "", _plainly(error)
    return hashlib.sha1(data, usedforsecurity=False).hexdigest(), size, mode, kind, ""


def _plainly(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "not an image file" if "cannot identify" in str(error) else f"damaged: {error}"[:80]
