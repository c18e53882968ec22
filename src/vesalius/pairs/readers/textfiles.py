"""Caption side files: beside every image a text of the same name (kohya's and EveryDream's way)."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePath

from vesalius.pairs.readers import folders
from vesalius.pairs.readers.base import Found, Item, Note, Skipped, file_stamp
from vesalius.pairs.readers.files import listing, text_encoding
from vesalius.pairs.settings import ReaderOptions

_REPEATS = re.compile(r"^\d+_")  # kohya's folders begin with how often an epoch takes them


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The images below `source` as in `folders.read`, `a.jpg` with the text of `a.txt` as caption.

    White space in a caption becomes single spaces. The stamp covers both files. An image without
    a text is skipped, and so is a text without an image.
    """
    stems = lru_cache(maxsize=16)(_stems)  # afresh for each call: folders change
    for item in folders.read(source, options):
        if isinstance(item, Note):
            yield item
            continue
        path = source / item.key
        if isinstance(item, Found):
            texts, _ = stems(path.parent)
            yield _captioned(item, texts.get(path.stem))
        elif path.suffix.lower() != ".txt":
            yield item
        elif path.stem not in stems(path.parent)[1]:
            yield Skipped(item.key, "a caption file without an image")


def _stems(folder: Path) -> tuple[dict[str, Path], set[str]]:
    """Texts of a folder by their names without suffix, and such names of what may be an image."""
    files = [PurePath(name) for name, is_folder in listing(folder) if not is_folder]
    texts = {name.stem: folder / name for name in files if name.suffix.lower() == ".txt"}
    return texts, {name.stem for name in files if name.suffix.lower() not in folders.NOT_IMAGES}


def _captioned(item: Found, text: Path | None) -> Item:
    if text is None or not text.is_file():
        return Skipped(item.key, "no caption file", item.stamp)
    stamp = f"{item.stamp}+{file_stamp(text)}"
    try:
        data = text.read_bytes()
    except OSError as error:
        return Skipped(item.key, f"unreadable caption file: {error.strerror}", stamp)
    caption = " ".join(data.decode(text_encoding(io.BytesIO(data)), errors="replace").split())
    if not caption:
        return Skipped(item.key, "empty caption file", stamp)
    label = _REPEATS.sub("", item.label) if item.label else None
    return replace(item, caption=caption, label=label, stamp=stamp)
