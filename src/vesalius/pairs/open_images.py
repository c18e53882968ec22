"""Any images as one set: a pairs table, a synthetic set with its manifest, or any other source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet
from vesalius.images.pixels import prepare
from vesalius.images.stored_images import MANIFEST, loads, rows_with_images
from vesalius.pairs.readers import ReaderOptions, sources
from vesalius.pairs.readers.base import Found
from vesalius.pairs.table import Pairs

_PROMPTS = ("caption", "prompt")  # what a manifest calls it


def open_images(path: Path | str) -> ImageSet:
    """A pairs table, a folder with `manifest.jsonl` and any store, or whatever `vesalius pairs` reads.

    Images of a tar file without a manifest are held in memory. Raises VesaliusError where there is nothing to read.
    """
    path = Path(path)
    if path.suffix == ".parquet" and path.is_file():
        try:
            return Pairs(path)
        except VesaliusError:  # a table of images that `vesalius pairs` did not write
            return _from_readers(path)
    if (path / MANIFEST).is_file():
        return _from_manifest(path)
    return _from_readers(path)


def _from_manifest(folder: Path) -> ImageSet:
    rows = rows_with_images(folder)

    def column(name: str) -> list[str]:
        names = _PROMPTS if name == "caption" else (name,)
        return [str(next((row[each] for each in names if row.get(each)), "")) for row in rows]

    return ImageSet(loads(folder, rows), column)


def _from_readers(path: Path) -> ImageSet:
    loads = []
    columns: dict[str, list[str]] = {name: [] for name in ("label", "caption", "group", "source")}
    for source in sources(str(path)):
        for item in source.items(ReaderOptions()):
            if not isinstance(item, Found):
                continue  # no image
            loads.append(_as_file(item))
            columns_of_item = {"label": item.label, "caption": item.caption, "group": item.group,
                    "source": source.name}  # fmt: skip
            for name, value in columns_of_item.items():
                columns[name].append(value or "")
    if not loads:
        raise VesaliusError(f"{path} holds no image that can be measured")
    return ImageSet(loads, columns)


def _as_file(item: Found) -> Callable[[], bytes]:
    def load() -> bytes:
        content: Any = item.load()
        if isinstance(content, bytes):
            return content
        return prepare(content.array).data  # what a reader decoded itself, DICOM for one

    return load
