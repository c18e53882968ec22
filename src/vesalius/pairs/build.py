"""`vesalius pairs`: any sources to one pairs table and its datasheet, or nothing at all.

Scan every image once into parts beside the table (they outlive a stop), compose captions and
groups, find duplicates, draw the splits so that no group and no near-duplicate crosses them, check
that none does, and only then write.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vesalius.core.atomic import (
    MARKER,
    atomic_path,
    clear_write_errors,
    remove,
    work_folder,
    writable_new_file,
)
from vesalius.core.labels import findings_of
from vesalius.errors import VesaliusError
from vesalius.images.pixels import parse_window
from vesalius.pairs.captions import (
    Dictionary,
    SetDictionary,
    default_dictionary,
    entry_for,
    load_dictionary,
    nearest_entries,
)
from vesalius.pairs.datasheet import write_datasheet
from vesalius.pairs.deidentify import load_pseudonyms, write_key
from vesalius.pairs.examine import OnImages, examine, fingerprint, listed_stamps
from vesalius.pairs.readers import Source, sources
from vesalius.pairs.readers.base import Found
from vesalius.pairs.readers.files import walk
from vesalius.pairs.settings import PairsSettings
from vesalius.pairs.splits import parse_split
from vesalius.pairs.table import FORMAT, open_table
from vesalius.pairs.write import write_table
from vesalius.report.notebook import show

__all__ = ["BuiltPairs", "PairsSettings", "build_pairs", "check_pairs"]

_LOOKED_AT = 10_000  # items of a source whose labels are compared with a dictionary's
# What of a datasheet says whether its table would be made again as it is.
_MADE_OF = ("source_fingerprint", "pictures", "table", "identity_key")


@dataclass(frozen=True, repr=False)
class BuiltPairs:
    """A pairs table and what its datasheet says; `read_pairs` opens the table itself."""

    path: Path
    datasheet: dict[str, Any]  # what `<stem>.datasheet.json` holds
    problems: tuple[str, ...] = ()  # what makes the table unfit for use
    unchanged: bool = False  # the table was there already, made of the same sources

    def __repr__(self) -> str:
        images, sheet = self.datasheet["splits"], self.datasheet
        splits = ", ".join(f"{name} {n:,}" for name, n in images.items() if n)
        return f"<{self.path}: {sheet['images']:,} images ({splits}). {sheet['verdict']}>"

    def _repr_html_(self) -> str:
        splits = [name for name, n in self.datasheet["splits"].items() if n]
        labels = self.datasheet["labels"][:20]
        rows = [[label["name"], label["images"], *(label[s] for s in splits)] for label in labels]
        warnings = [one["message"] for one in self.datasheet["findings"]]
        return show(repr(self)[1:-1], ["label", "images", *splits], rows, *warnings)


def build_pairs(
    asked: Sequence[str],
    out: Path | str,
    options: PairsSettings | None = None,
    *,
    samples: int = 6,
    strict: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    on_images: OnImages | None = None,
) -> BuiltPairs:
    """Turn sources (`PATH` or `NAME=PATH`) into the table `out` and its datasheet.

        built = vesalius.build_pairs(["images/"], "pairs.parquet", PairsSettings(split="val=0.2"))

    Beside `out` come `<stem>.datasheet.html` and `.json`. Nothing is done when `out` was made from
    the same content with the same options. A build that was stopped is gone on with. `samples` is
    how many pictures of each class the datasheet shows, and `command` what it says it was made by.
    `problems` of the result are as in `check_pairs`: by the sources' own splits, say.

    Raises VesaliusError for what cannot be used as a whole; a bad row is skipped and named in the
    datasheet, or with `strict` stops the build.
    """
    out, options = Path(out), options or PairsSettings()
    if out.suffix != ".parquet":
        raise VesaliusError(f"--out {out}: a pairs table is a .parquet file")
    page, record = (out.with_name(f"{out.stem}.datasheet.{kind}") for kind in ("html", "json"))
    captions = options.captions
    dictionary = load_dictionary(captions) if captions else default_dictionary()
    found = _sources(asked, options, dictionary)
    _check_outside(out, found)
    pseudonyms = load_pseudonyms(options.identity_key)
    parts = out.absolute().with_name(f".{out.name}.parts")
    if not overwrite and out.is_file() and page.is_file() and (before := _earlier(record)):
        now = fingerprint(options, dictionary, found, listed_stamps(found, options))
        key = pseudonyms.check() if options.identity_key else None
        if [before.get(n) for n in _MADE_OF] == [now, samples, _table_hash(out), key]:
            remove(parts)  # of a run that was to replace the table, and was stopped
            return BuiltPairs(out, before, _problems(before, options), unchanged=True)
    stopped = not out.exists() and (parts / MARKER).is_file()  # then its datasheet is that run's
    for path in (out, page, record):
        writable_new_file(path, overwrite=overwrite or stopped)

    try:
        with clear_write_errors(out, 3 * _bytes(found)), work_folder(parts) as work:
            examined = examine(
                found,
                dictionary,
                work,
                options,
                strict=strict,
                command=command,
                on_images=on_images,
                pseudonyms=pseudonyms,
            )
            if options.identity_key:
                write_key(pseudonyms, options.identity_key)
            with atomic_path(out) as temporary:
                write_table(examined.draft, temporary)
                made = {"pairs": out.name, "pictures": samples, "table": _table_hash(temporary)}
                document = examined.document | made
                write_datasheet(document, examined.picture, page, record, samples=samples)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted: repeat the command to resume") from None
    return BuiltPairs(out, document, _problems(document, options))


def check_pairs(
    path: Path | str,
    options: PairsSettings | None = None,
    out: Path | str | None = None,
    *,
    samples: int = 6,
    overwrite: bool = False,
    on_images: OnImages | None = None,
) -> BuiltPairs:
    """Look at a pairs table that somebody made; its datasheet is written beside `out` if given.

    Every image is decoded, and every leak looked for; nothing is repaired. `problems` of the result
    list what makes the table unfit: unreadable images, empty captions, and a patient or
    an identical image in two splits.

    Raises VesaliusError where it is no pairs table at all.
    """
    open_table(path, FORMAT)
    pages = [Path(out).with_suffix(kind) for kind in (".html", ".json")] if out else []
    for page in pages:
        writable_new_file(page, overwrite=overwrite)
    options = replace(options or PairsSettings(), captions=None, split="own", duplicates="keep")
    options = replace(options, folds=0, shots=0, fraction=1.0, identity_key=None, deidentify=False)
    found = [Source(Path(path).stem, Path(path), "parquet")]
    as_it_is = {"*": SetDictionary(templates=["{caption}"])}
    with TemporaryDirectory() as work:
        examined = examine(found, as_it_is, Path(work) / "parts", options, on_images=on_images)
        document = examined.document | {"pairs": Path(path).name}
        if pages:
            write_datasheet(document, examined.picture, pages[0], pages[1], samples=samples)
    problems = [f"{key}: {reason}" for _, key, reason in examined.draft.skipped]
    return BuiltPairs(Path(path), document, (*problems, *_errors(document)))


def _sources(asked: Sequence[str], options: PairsSettings, dictionary: Dictionary) -> list[Source]:
    """The sources asked for; what is wrong with the options is said before anything is read."""
    parse_window(options.reading.window)
    if options.split not in ("auto", "own"):
        parse_split(options.split)
    exclude = options.reading.exclude
    found = [s for one in asked for s in sources(one, options.reader, exclude)]
    names = [source.name for source in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise VesaliusError(f"two sources are called {twice!r}: give one another name, NAME=PATH")
    for source in found:
        if not source.one_of_many:
            _check_entry(source, options, dictionary)
    return found


def _check_entry(source: Source, options: PairsSettings, dictionary: Dictionary) -> None:
    """Raises VesaliusError, with the entry that may be meant, where a source has none."""
    try:
        entry_for(dictionary, source.name)
    except VesaliusError as error:
        items = islice(source.items(options.reading), _LOOKED_AT)
        said = [findings_of(item.label) for item in items if isinstance(item, Found)]
        fitting = nearest_entries(dictionary, frozenset().union(*said))
        if not fitting:
            raise
        raise VesaliusError(
            f"the dictionary has no entry for {source.name!r}: write {fitting[0]}={source.path}; "
            f"its labels fit {' and '.join(fitting)}"
        ) from error


def _check_outside(out: Path, found: Sequence[Source]) -> None:
    """A table inside of a source would be read as data by the next run."""
    for source in found:
        if source.path.is_dir() and out.resolve().is_relative_to(source.path.resolve()):
            raise VesaliusError(
                f"--out {out} lies inside of the source {source.path}: choose another"
            )


def _earlier(record: Path) -> dict[str, Any] | None:
    """The datasheet of an earlier run, None where there is none that can be read."""
    try:
        document = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _table_hash(path: Path) -> str:
    """Size and hash of the end of a Parquet file, where it says where and what everything is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 1_000_000))
        return f"{size}:{hashlib.sha256(file.read()).hexdigest()}"


def _problems(document: dict[str, Any], options: PairsSettings) -> tuple[str, ...]:
    return () if options.duplicates == "keep" else _errors(document)


def _errors(document: dict[str, Any]) -> tuple[str, ...]:
    found = document["findings"]
    return tuple(one["message"] for one in found if one["severity"] == "error")


def _bytes(found: Sequence[Source]) -> int:
    """Size of all sources' files on the disk."""
    files = (walk(source.path) if source.path.is_dir() else [source.path] for source in found)
    return sum(path.stat().st_size for some in files for path in some if path.is_file())
