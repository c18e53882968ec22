"""WebDataset: tar files in which the members of a sample share a name and stand together."""

import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby
from pathlib import Path
from tarfile import EOFHeaderError  # pyright: ignore[reportAttributeAccessIssue]

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.base import Found, Item, Skipped, file_stamp
from vesalius.pairs.readers.columns import Description, describe, find_columns
from vesalius.pairs.readers.files import excluded, listing, text_encoding
from vesalius.pairs.readers.parquet import MOST_BYTES, holding
from vesalius.pairs.settings import ReaderOptions

_LARGEST = 2**36  # bytes of a member: to step over more, which a header may claim, takes minutes
MOST_HEADER = 1_000_000  # bytes of what stands before a member: long names and pax headers
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
            tarfile.SOLARIS_XHDTYPE)  # fmt: skip
_TARS = (".tar", ".tar.gz", ".tgz")
_IMAGES = {"jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "dcm", "img"}
_TEXTS = {"txt", "caption", "cls", "json"}
_BREAKS = (tarfile.TarError, OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class _Member:
    sample: str  # the name up to its first dot
    kind: str  # what stands behind its last dot, in lower case
    data: bytes | None  # None where it, or the sample, is too large


class _Header(tarfile.TarInfo):
    """A damaged header is an error; the standard library takes it for the end of the archive."""

    @classmethod
    def fromtarfile(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, tar: tarfile.TarFile
    ) -> "_Header":
        try:
            return super().fromtarfile(tar)
        except (EOFHeaderError, tarfile.ReadError):
            raise
        except Exception as error:  # damaged headers raise anything
            raise tarfile.ReadError(str(error)) from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """A header, checked before what it announces is read."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in _HEADERS and found.size > MOST_HEADER:
            raise tarfile.ReadError(f"a header of {found.size:,} bytes")
        return found


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The samples of a tar file, plain or compressed, or of those in a folder, by file name.

    A sample has one image; its caption is in `.txt` or `.caption`, its label in `.cls`, and the
    keys of its `.json` are understood as columns are. Nothing is extracted to disk. Keys are
    `TAR:NAME`. Of a tar that breaks off, the samples before the break are given, without the one
    that it may have cut.

    Raises VesaliusError for a file that is no tar, and a folder without one.
    """
    tars = [source]
    if source.is_dir():
        tars = [
            source / name
            for name, is_folder in listing(source)
            if not is_folder and name.lower().endswith(_TARS)
        ]
        tars = [path for path in tars if not excluded(path.name, options.exclude)]
    if not tars:
        raise VesaliusError(f"{source} holds no tar file: give a folder of .tar files")
    for path in tars:
        yield from _samples(path, options)


def _samples(path: Path, options: ReaderOptions) -> Iterator[Item]:
    stamp = file_stamp(path)
    seen: set[str] = set()
    count = 0
    with _opened(path) as tar:
        try:
            for name, together in groupby(
                _members(tar, options.exclude), key=lambda member: member.sample
            ):
                key, members = f"{path.name}:{name}", list(together)
                count += 1
                if excluded(key, options.exclude):
                    continue
                if name in seen:
                    reason = "its members do not stand together, or it is twice"
                    yield Skipped(f"{key}@{count}", reason, stamp)
                else:
                    seen.add(name)
                    yield _item(key, members, stamp, options)
        except _BREAKS:
            yield Skipped(path.name, f"truncated after {count} samples", stamp)


def _item(key: str, members: Sequence[_Member], stamp: str, options: ReaderOptions) -> Item:
    images = [member.data for member in members if member.kind in _IMAGES]
    if any(member.data is None for member in members):
        return Skipped(key, f"its members are larger than {MOST_BYTES >> 20} MiB", stamp)
    if len(images) != 1:
        return Skipped(key, "several images" if images else "no image", stamp)
    try:
        said = _described(members, options)
    except (ValueError, RecursionError):
        return Skipped(key, "its .json cannot be read", stamp)
    except VesaliusError as error:  # a column that it lacks
        return Skipped(key, str(error), stamp)
    return Found(key, holding(images[0] or b""), stamp, **said)


def _described(members: Sequence[_Member], options: ReaderOptions) -> Description:
    texts: dict[str, str] = {}
    for member in members:
        if member.kind in _TEXTS and member.data:
            encoding = text_encoding(BytesIO(member.data))
            texts.setdefault(member.kind, member.data.decode(encoding, errors="replace"))
    row = json.loads(texts.get("json", "{}"))
    if not isinstance(row, dict):
        raise ValueError("no object")
    columns = find_columns(list(row), replace(options, image_column=None))
    said = describe(row, columns)
    caption = " ".join(texts.get("txt", texts.get("caption", "")).split())
    if caption and not options.caption_column:
        said["caption"] = caption
    label = texts.get("cls", "").strip()
    if label and not options.label_column:
        if columns.label and said["label"]:  # the class's name beside its number
            said["attributes"][columns.label] = said["label"]
        said["label"] = label
    return said


def _opened(path: Path) -> tarfile.TarFile:
    try:
        # A name that is not UTF-8 stays distinct and can be written down.
        return tarfile.open(
            path, "r|*", tarinfo=_Header, encoding="utf-8", errors="backslashreplace"
        )
    except Exception as error:  # damaged archives raise anything
        raise VesaliusError(
            f"{path} is not a tar file, or damaged from its start: fetch it again"
        ) from error


def _members(tar: tarfile.TarFile, exclude: Sequence[str]) -> Iterator[_Member]:
    sample, held = "", 0
    while header := tar.next():
        # which would grow with the archive
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        if not 0 <= header.size <= _LARGEST:
            raise tarfile.ReadError("a member claims to be larger than any is")
        path = header.name.removeprefix("./")
        folder, slash, base = path.rpartition("/")
        if not header.isreg() or base.startswith(".") or excluded(path, exclude):
            continue
        stem, _, suffix = base.partition(".")
        member = _Member(folder + slash + stem, suffix.rpartition(".")[2].lower(), b"")
        if member.sample != sample:
            sample, held = member.sample, 0
        if member.kind not in _IMAGES | _TEXTS:
            yield member
        elif (held := held + header.size) > MOST_BYTES:
            yield replace(member, data=None)
        else:
            try:
                file = tar.extractfile(header)
                data = file.read() if file else b""
            except _BREAKS:
                yield member  # a new name: the sample before it is complete
                raise
            yield replace(member, data=data)
