"""One file a format; each lists the images of a source and what the source says of them.

Another package adds a reader by an entry point of the group `vesalius.readers`: see docs/extending.md.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vesalius.core.paths import did_you_mean_path
from vesalius.core.registry import Registry
from vesalius.errors import VesaliusError
from vesalius.images.dicom_pixels import is_bare_dicom, is_dicom
from vesalius.images.pixels import Pixels
from vesalius.pairs.readers.base import Found, Item, Note, Skipped
from vesalius.pairs.readers.files import IMAGE_SUFFIXES, PARTICIPANTS, excluded, walk
from vesalius.pairs.settings import ReaderOptions

__all__ = ["READERS", "Found", "Pixels", "ReaderOptions", "Skipped", "Source", "sources"]

READERS = Registry(
    "reader",
    {
        "folders": "vesalius.pairs.readers.folders:read",
        "metadata": "vesalius.pairs.readers.metadata:read",
        "text": "vesalius.pairs.readers.textfiles:read",
        "parquet": "vesalius.pairs.readers.parquet:read",
        "datasets": "vesalius.pairs.readers.datasets_folder:read",
        "webdataset": "vesalius.pairs.readers.webdataset:read",
        "dicom": "vesalius.pairs.readers.dicom:read",
        "volumes": "vesalius.pairs.readers.volumes:read",
        "prostate": "vesalius.pairs.readers.prostate:read",
    },
)

_WITHOUT_COLUMNS = ("folders", "text", "dicom", "volumes", "prostate")
_TABLES = (".csv", ".tsv", ".jsonl")
_PACKED = tuple(f"{suffix}.gz" for suffix in _TABLES)
_TARS = (".tar", ".tar.gz", ".tgz")
_VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
_SHARD = re.compile(r"-\d+-of-\d+|^(train|val|validation|valid|dev|test)([-_.]|$)", re.IGNORECASE)
_ARRAYS = "save each image as a PNG file, class by class in a folder"
_UNREADABLE = {
    ".zip": "unzip it and give the folder",
    ".7z": "unpack it and give the folder",
    ".rar": "unpack it and give the folder",
    ".npz": _ARRAYS,
    ".npy": _ARRAYS,
    ".h5": _ARRAYS,
    ".hdf5": _ARRAYS,
    ".xlsx": "write the table as CSV beside the images",
    ".xls": "write the table as CSV beside the images",
    ".svs": "cut the slide into tiles first",
}
_PAIRS = {"sha1", "symmetry", "group", "split"}  # columns of a table that `vesalius pairs` wrote
_LOOKED_AT = 200  # files of a folder that decide what kind it is


@dataclass(frozen=True)
class Source:
    """A folder or file, what it is called and which reader understands it."""

    name: str
    path: Path
    reader: str
    one_of_many: bool = False  # of a folder of tables: if it cannot be read, the others still can

    def items(
        self, options: ReaderOptions, on_note: Callable[[str], None] = lambda message: None
    ) -> Iterator[Found | Skipped]:
        """Its images, in a fixed order; `on_note` gets what a user should know of how they are read.

        Raises VesaliusError where the whole cannot be read.
        """
        if self.reader in _WITHOUT_COLUMNS:
            for role in ("image", "caption", "label", "group", "split"):
                if (self.reader, role) == ("dicom", "label"):
                    continue  # an attribute of the header
                if getattr(options, f"{role}_column") is not None:
                    raise VesaliusError(
                        f"--{role}-column: {self.name} is read by the reader {self.reader}, which "
                        "has no columns; a patient in a path is found by --group-pattern"
                    )
        items = READERS.load(self.reader)(self.path, options)
        return _without_notes(items, on_note)

    def count(self) -> int | None:
        """How many items there are about to be, where that is quickly known."""
        if self.path.is_dir() and self.reader in ("folders", "dicom"):
            return sum(1 for _ in walk(self.path))
        if self.path.is_file() and self.reader == "parquet":
            import pyarrow.parquet as pq

            with suppress(OSError, ValueError):
                return pq.read_metadata(self.path).num_rows
        return None


def _without_notes(
    items: Iterator[Item], on_note: Callable[[str], None]
) -> Iterator[Found | Skipped]:
    for item in items:
        if isinstance(item, Note):
            on_note(item.message)
        else:
            yield item


def sources(asked: str, reader: str = "auto", exclude: Sequence[str] = ()) -> list[Source]:
    """The sources behind `PATH` or `NAME=PATH`: mostly one, several for a folder of Parquet files.

    Parquet files that are not shards of one table are a source each. `exclude` is as in
    ReaderOptions.

    Raises VesaliusError when there is nothing, or an unknown reader is asked for.
    """
    READERS.check(reader, "auto")
    name, equals, rest = asked.partition("=")
    named = bool(equals) and not os.path.exists(asked)  # False for what no path can be
    path = Path(rest if named else asked)
    name = name if named else _stem(path)
    if not os.path.isdir(path) and not os.path.isfile(path):
        hint = did_you_mean_path(path) or ": give a folder or a file, or NAME=PATH"
        raise VesaliusError(f"no source at {path}{hint}")
    if path.is_file() and reader == "auto" and (hint := _UNREADABLE.get(path.suffix.lower())):
        raise VesaliusError(f"{path} cannot be read as it is: {hint}")
    if path.is_file() and path.name.lower().endswith(_PACKED):
        raise VesaliusError(
            f"{path} cannot be read as it is: unpack it (gunzip) and give the table"
        )
    try:
        reader = _recognise(path) if reader == "auto" else reader
    except OSError as error:
        raise VesaliusError(f"{path} cannot be read: {error.strerror}") from error
    if reader != "parquet" or path.is_file():
        return [Source(name, path, reader)]
    files = [file for file in _parquet_files(path) if not excluded(file.name, exclude)]
    if any(_SHARD.search(file.stem) for file in files) or not files:
        return [Source(name, path, reader)]
    return [Source(file.stem, file, reader, one_of_many=len(files) > 1) for file in files]


def _recognise(path: Path) -> str:
    if path.is_file():
        return _of_file(path)
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    if names & {"dataset_dict.json", "state.json"}:
        return "datasets"
    tables = sorted(name for name in names if name.endswith(_TABLES) and name != PARTICIPANTS)
    if any(Path(name).stem == "metadata" for name in tables):
        return "metadata"
    if "metadata.parquet" in names and not _holds_images(path / "metadata.parquet"):
        return "metadata"
    if parquet := _parquet_files(path):
        _refuse_pairs_beside_images(path, parquet)
        return "parquet"
    # a set of `vesalius synthesize`, whose tars hold what its manifest says
    if tables == ["manifest.jsonl"] and any(name.endswith(_TARS) for name in names):
        return "webdataset"
    if len(tables) == 1:
        return "metadata"
    if tables:
        raise VesaliusError(
            f"{path} holds several tables, {', '.join(tables)}: give the one to read as the source, "
            "or say --reader folders to leave them aside"
        )
    if any(name.endswith(_TARS) for name in names):
        return "webdataset"
    if packed := sorted(name for name in names if name.lower().endswith(_PACKED)):
        raise VesaliusError(
            f"{path} holds {packed[0]}, which may say what the images are: unpack it (gunzip) and give the "
            "table as the source, or say --reader folders to leave it aside"
        )
    if _tables_below(path):
        return "metadata"
    files = list(islice(walk(path), _LOOKED_AT))
    if not files:
        raise VesaliusError(f"{path} is empty: there is nothing to make pairs of")
    kinds = [_of_file(file) for file in files]
    for kind in ("dicom", "volumes"):
        if kind in kinds:
            return kind
    captioned = sum(file.with_suffix(".txt") in files for file in files if file.suffix != ".txt")
    return "text" if 4 * captioned > len(files) else "folders"


def _refuse_pairs_beside_images(path: Path, tables: list[Path]) -> None:
    """Raise VesaliusError where nobody can say whether images or an earlier table of them are meant."""
    own = next((table for table in tables if {*_columns(table)} >= _PAIRS), None)
    images = (file for file in walk(path) if file.suffix.lower() in IMAGE_SUFFIXES)
    if own and (image := next(images, None)):
        raise VesaliusError(
            f"{path} holds images, such as {image.relative_to(path)}, and {own.name}, a table that "
            "`vesalius pairs` wrote: give the table itself, or say --reader folders for the images"
        )


def _tables_below(path: Path) -> bool:
    """Whether there are folders of images with a table each, and nothing that is read another way."""
    from vesalius.pairs.readers.columns import find_columns
    from vesalius.pairs.readers.metadata import nested_tables
    from vesalius.pairs.readers.tables import column_names

    tables = nested_tables(path)
    with suppress(VesaliusError):
        known = [find_columns(column_names(table), ReaderOptions()) for table in tables]
        return bool(known) and all(columns.image is not None for columns in known)
    return False


def _of_file(path: Path) -> str:
    name = path.name.lower()
    if name.endswith(_VOLUMES):
        return "volumes"
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith(_TABLES):
        return "metadata"
    if name.endswith(_TARS):
        return "webdataset"
    try:
        if not path.is_file():  # a pipe or a device would not end
            return "folders"
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return "folders"
    known = is_dicom(head) or is_bare_dicom(head) or name.endswith(".dcm")
    return "dicom" if known else "folders"


def _holds_images(path: Path) -> bool:
    """Whether a Parquet file has the images inside, rather than their paths."""
    import pyarrow as pa

    types = _columns(path).values()
    return any(pa.types.is_struct(kind) or pa.types.is_binary(kind) for kind in types)


def _columns(path: Path) -> dict[str, Any]:
    """Types by name of a Parquet file; none of what is not one."""
    import pyarrow.parquet as pq

    with suppress(OSError, ValueError):
        schema = pq.read_schema(path)
        return dict(zip(schema.names, schema.types, strict=True))
    return {}


def _parquet_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *(folder / "data").glob("*.parquet")])


def _stem(path: Path) -> str:
    name = path.resolve().name
    if path.is_dir():
        return name
    bare = name.removesuffix(".gz")
    suffix = Path(bare).suffix
    return bare if suffix[1:].isdigit() else bare.removesuffix(suffix)  # 1.2.840 is a name
