"""`vesalius pairs`: any sources to one pairs table and its datasheet, or nothing at all.

Scan every image once into parts beside the table (they outlive a stop), compose captions and
groups, find duplicates, draw the splits so that no group and no near-duplicate crosses them, check
that none does, and only then write.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from vesalius import __version__
from vesalius.data import tokens
from vesalius.data.captions import (
    Dictionary,
    SetDictionary,
    default_dictionary,
    entry_for,
    load_dictionary,
    needed_columns,
)
from vesalius.data.compose import Draft, compose, join
from vesalius.data.datasheet import describe, write_datasheet
from vesalius.data.dedupe import (
    Duplicate,
    clusters,
    embedding_duplicates,
    find_duplicates,
    spanning,
)
from vesalius.data.divide import divide, fold, thin, without_unknown_splits
from vesalius.data.embedding import embed
from vesalius.data.leaks import find_leaks, longest_chain, safe_groups
from vesalius.data.pairs import FORMAT, open_table
from vesalius.data.readers import ReaderOptions, Source, sources
from vesalius.data.readers.files import walk
from vesalius.data.scan import open_part, scan
from vesalius.data.splits import parse_split
from vesalius.data.write import write_table
from vesalius.errors import VesaliusError
from vesalius.io.atomic import (
    atomic_path,
    remove,
    told_plainly,
    work_folder,
    writable_new_file,
)
from vesalius.io.pixels import THUMB, open_rgb, parse_window

TABLE_FORMAT = 2  # raised when the same input would give another table

_MASK = re.compile(
    r"(_|-|\b)(mask|seg|segmentation|label|groundtruth)s?([_\-.\d]|$)", re.IGNORECASE
)

OnImages = Callable[[int, int | None], None]


@dataclass(frozen=True)
class PairsOptions:
    """Everything that decides what is in a pairs table, but its sources."""

    reader: str = "auto"
    captions: str | None = None  # a dictionary: a bundled name or a .yaml file
    split: str = "auto"  # see divide
    stratify: bool = True
    folds: int = 0  # 0: no column `fold`
    shots: int = 0  # rows a label that stay in train; 0: all
    fraction: float = 1.0  # of the training groups that stay in train
    duplicates: Literal["group", "keep", "drop"] = "group"
    copy_detector: str | None = None  # see embedding.embed; finds copies that were edited further
    alike: float = 0.85  # cosine similarity of two embeddings, to call the images copies
    seed: int = 0
    text_encoder: str = "mini"  # whose token budget is reported; "none" for no report
    reading: ReaderOptions = field(default_factory=ReaderOptions)


@dataclass(frozen=True)
class Examined:
    """A table that is ready to be written, and what was found out about it."""

    draft: Draft
    document: dict[str, Any]  # of the datasheet

    def picture(self, row: int) -> Image.Image:
        """The image of a row, 8-bit RGB."""
        return open_rgb(self.draft.image(row))


def build_pairs(
    asked: Sequence[str],
    out: Path | str,
    options: PairsOptions | None = None,
    *,
    samples: int = 6,
    strict: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    on_images: OnImages | None = None,
) -> dict[str, Any]:
    """Turn sources (`PATH` or `NAME=PATH`) into the table `out` and its datasheet; return the latter.

    Beside `out` come `<stem>.datasheet.html` and `.json`. Nothing is done when `out` was made from
    the same content with the same options. A build that was stopped is gone on with. `samples` is
    how many pictures of each class the datasheet shows, and `command` what it says it was made by.
    The key `problems` of the result is as in `check_pairs`: by the sources' own splits, say.

    Raises VesaliusError for what cannot be used as a whole; a bad row is skipped and named in the
    datasheet, or with `strict` stops the build.
    """
    out, options = Path(out), options or PairsOptions()
    if out.suffix != ".parquet":
        raise VesaliusError(f"--out {out}: a pairs table is a .parquet file")
    page, record = (out.with_name(f"{out.stem}.datasheet.{kind}") for kind in ("html", "json"))
    captions = options.captions
    dictionary = load_dictionary(captions) if captions else default_dictionary()
    found = _sources(asked, options, dictionary)
    parts = out.absolute().with_name(f".{out.name}.parts")
    if out.is_file() and record.is_file() and not overwrite:
        document = json.loads(record.read_text(encoding="utf-8"))
        stamps = ((i.key, i.stamp) for source in found for i in source.items(options.reading))
        if document.get("fingerprint") == _fingerprint(options, dictionary, found, stamps):
            remove(parts)  # of a run that was to replace the table, and was stopped
            return document | {"unchanged": True}
    writable_new_file(out, overwrite=overwrite)

    try:
        with (
            told_plainly(out, 2 * _bytes(found)),
            work_folder(parts) as work,
        ):
            examined = examine(
                found,
                dictionary,
                work,
                options,
                strict=strict,
                command=command,
                on_images=on_images,
            )
            document = examined.document | {"pairs": out.name}
            with atomic_path(out) as temporary:
                write_table(examined.draft, temporary)
                write_datasheet(document, examined.picture, page, record, samples=samples)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted: the same command goes on where it was") from None
    accepted = options.duplicates == "keep"
    return document | {"problems": [] if accepted else _messages(document, "error")}


def check_pairs(
    path: Path | str,
    options: PairsOptions | None = None,
    out: Path | str | None = None,
    *,
    samples: int = 6,
    on_images: OnImages | None = None,
) -> dict[str, Any]:
    """Look at a pairs table that somebody made; return its datasheet, written beside `out` if given.

    Every image is decoded, and every leak looked for; nothing is repaired. The key `problems` of
    the result lists what makes the table unfit: unreadable images, empty captions, and a patient or
    an identical image in two splits.

    Raises VesaliusError where it is no pairs table at all.
    """
    open_table(path, FORMAT)
    options = replace(options or PairsOptions(), captions=None, split="own", duplicates="keep")
    options = replace(options, folds=0, shots=0, fraction=1.0)
    found = [Source(Path(path).stem, Path(path), "parquet")]
    as_it_is = {"*": SetDictionary(templates=["{caption}"])}
    with TemporaryDirectory() as work:
        examined = examine(found, as_it_is, Path(work) / "parts", options, on_images=on_images)
        document = examined.document | {"pairs": Path(path).name}
        if out is not None:
            pages = [Path(out).with_suffix(kind) for kind in (".html", ".json")]
            write_datasheet(document, examined.picture, *pages, samples=samples)
    problems = [f"{key}: {reason}" for _, key, reason in examined.draft.skipped]
    problems += _messages(document, "error")
    return document | {"problems": problems}


def examine(
    found: Sequence[Source],
    dictionary: Dictionary,
    work: Path,
    options: PairsOptions,
    *,
    strict: bool = False,
    command: str | None = None,
    on_images: OnImages | None = None,
) -> Examined:
    """Do everything but write the table; scanned parts stay in the folder `work`."""
    counter = None if options.text_encoder == "none" else tokens.load_counter(options.text_encoder)
    drafts = []
    _same_work(work, options, found)
    total, done = _total(found) if on_images else None, 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if on_images:
            on_images(done, total)

    unread = []
    for number, source in enumerate(found):
        try:
            entry = entry_for(dictionary, source.name)
            parts = scan(
                source.items(options.reading),
                work / f"{number:03}",
                window=options.reading.window,
                bits=options.reading.bits,
                strict=strict,
                on_images=count,
            )
        except VesaliusError as error:
            if strict or not source.one_of_many:
                raise
            unread.append((source.name, source.path.name, str(error)))
            continue
        pattern = options.reading.group_pattern
        drafts.append(compose(source.name, parts, entry, counter, pattern))
    draft = join(drafts, unread)
    if strict and draft.skipped:
        source, key, reason = draft.skipped[0]
        raise VesaliusError(f"{source}: {key}: {reason} (--strict stops at it)")
    draft = without_unknown_splits(draft, options.split)
    if not len(draft):
        source, key, reason = draft.skipped[-1]
        raise VesaliusError(f"no image can be used: {source}: {key}: {reason}")
    duplicates = _duplicates(draft, work)
    if options.duplicates == "drop":
        draft = draft.without(_copies(draft, duplicates))
        duplicates = _duplicates(draft, work)
    if options.copy_detector:
        images = (open_rgb(draft.image(row)) for row in range(len(draft)))
        features = embed(images, len(draft), options.copy_detector, on_images)
        alike = embedding_duplicates(features, options.alike)
        duplicates = spanning(len(draft), [*duplicates, *alike])
    own_groups = draft.column("group")
    warnings = _slips(draft, dictionary)
    if options.duplicates != "keep":
        united = safe_groups(own_groups, duplicates)
        draft = draft.with_column("group", united, pa.string())
        if chain := longest_chain(own_groups, united):
            warnings.append(
                f"{chain.rows} images ({chain.share:.0%}) of {chain.groups} groups are held together "
                "by near-duplicates, so they all go to one split: look at the duplicates, and use "
                "--duplicates keep if they only look alike"
            )
    draft = divide(draft, options.split, stratify=options.stratify, seed=options.seed)
    draft = thin(draft, shots=options.shots, fraction=options.fraction, seed=options.seed)
    if options.folds:
        draft = fold(draft, options.folds, options.seed)
    splits, labels = draft.column("split"), draft.column("label")
    sources_of = draft.column("source")
    leaks = find_leaks(draft.column("key"), labels, own_groups, splits, duplicates)
    facts = {
        "version": __version__,
        "command": command,
        "options": {k: v for k, v in asdict(options).items() if k != "reading"}
        | asdict(options.reading),
        "fingerprint": _fingerprint(options, dictionary, found, _stamps(draft.parts)),
        "tokens": counter and tokens.budget(_keyed_captions(draft), counter),
        "duplicates": _told(duplicates, labels, splits),
        "leaks": [asdict(leak) | {"source": sources_of[leak.rows[0]]} for leak in leaks],
        "warnings": warnings,
    }
    hidden = [
        name
        for name in ("part", "offset", "row", "sha1", "symmetry", "fold")
        if name in draft.table.column_names
    ]
    table = draft.table.drop_columns(hidden)
    if len(found) > 1 or len(set(sources_of)) > 1:  # `normal` is not one class
        told = zip(labels, sources_of, strict=True)
        names = [label and f"{label} ({source})" for label, source in told]
        table = table.set_column(table.column_names.index("label"), "label", pa.array(names))
    document = describe(table, draft.skipped, facts=facts)
    return Examined(draft, document)


def _messages(document: dict[str, Any], severity: str) -> list[str]:
    return [one["message"] for one in document["findings"] if one["severity"] == severity]


def _sources(asked: Sequence[str], options: PairsOptions, dictionary: Dictionary) -> list[Source]:
    parse_window(options.reading.window)
    if options.reading.bits not in (8, 16):
        raise VesaliusError(f"bits {options.reading.bits}: images are stored with 8 or 16")
    if options.split not in ("auto", "own"):
        parse_split(options.split)
    exclude = options.reading.exclude
    found = [s for one in asked for s in sources(one, options.reader, exclude)]
    names = [source.name for source in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise VesaliusError(f"two sources are called {twice!r}: give one another name, NAME=PATH")
    for source in found:
        if not source.one_of_many:
            entry_for(dictionary, source.name)
    return found


def _same_work(work: Path, options: PairsOptions, found: Sequence[Source]) -> None:
    """Keep what an earlier run left in `work` only if it read the same sources the same way."""
    about = [asdict(options.reading), [(s.name, str(s.path), s.reader) for s in found]]
    text, file = json.dumps([TABLE_FORMAT, *about], sort_keys=True), work / "about.json"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        remove(work)
    with atomic_path(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _fingerprint(
    options: PairsOptions,
    dictionary: Dictionary,
    found: Sequence[Source],
    stamps: Iterable[tuple[str, str]],
) -> str:
    """One hash of all that decides the table: options, dictionary, sources and their content."""
    entries = {name: entry.model_dump() for name, entry in dictionary.items()}
    about = [TABLE_FORMAT, asdict(options), entries, [(s.name, s.reader) for s in found]]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for key, stamp in stamps:
        digest.update(f"{key}\n{stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stamps(parts: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for path in parts:
        part = open_part(path)
        yield from zip(part["key"].to_pylist(), part["stamp"].to_pylist(), strict=True)


def _duplicates(draft: Draft, work: Path) -> list[Duplicate]:
    thumbs = np.memmap(work / "thumbs", np.uint8, "w+", shape=(len(draft), THUMB, THUMB))
    at, parts = 0, draft.table["part"].to_numpy()
    for number in np.unique(parts):
        offsets = draft.table["offset"].filter(pa.array(parts == number))
        chosen = open_part(draft.parts[number])["thumb"].take(offsets).combine_chunks()
        values = np.frombuffer(chosen.buffers()[1], np.uint8)
        thumbs[at : at + len(chosen)] = values.reshape(-1, THUMB, THUMB)
        at += len(chosen)

    def same_pixels(a: int, b: int) -> bool:
        first, second = (open_rgb(draft.image(row)) for row in (a, b))
        return first.size == second.size and first.tobytes() == second.tobytes()

    def grey(row: int) -> np.ndarray:
        return np.asarray(open_rgb(draft.image(row)).convert("L"))

    return find_duplicates(thumbs, draft.column("sha1"), same_pixels, grey)


def _copies(draft: Draft, duplicates: list[Duplicate]) -> dict[int, str]:
    """Rows to drop: of identical images all but the first, and all where their labels differ."""
    identical = [d for d in duplicates if d.kind in ("bytes", "pixels") and not d.turned]
    keys, labels, dropped = draft.column("key"), draft.column("label"), {}
    same: dict[int, list[int]] = {}
    for row, cluster in enumerate(clusters(len(draft), identical).tolist()):
        if cluster >= 0:
            same.setdefault(cluster, []).append(row)
    for first, *others in same.values():
        if len({labels[row] for row in (first, *others)}) > 1:
            told = ", ".join(sorted({str(labels[row]) for row in (first, *others)}))
            dropped |= dict.fromkeys((first, *others), f"the same image is labelled {told}")
        else:
            dropped |= dict.fromkeys(others, f"identical to {keys[first]}")
    return dropped


def _told(
    duplicates: list[Duplicate], labels: list[Any], splits: list[str], most: int = 50
) -> dict[str, Any]:
    """Duplicates for the datasheet: pairs by kind, and the clusters, those over two splits first."""
    counts = Counter("turned" if d.turned else d.kind for d in duplicates)
    members: dict[int, list[int]] = {}
    for row, cluster in enumerate(clusters(len(labels), duplicates).tolist()):
        if cluster >= 0:
            members.setdefault(cluster, []).append(row)
    weakest: dict[int, Duplicate] = {}
    of_row = {row: cluster for cluster, rows in members.items() for row in rows}
    for duplicate in duplicates:
        cluster = of_row[duplicate.a]
        if cluster not in weakest or duplicate.similarity < weakest[cluster].similarity:
            weakest[cluster] = duplicate
    told = [
        {
            "kind": "turned" if weakest[cluster].turned else weakest[cluster].kind,
            "similarity": round(weakest[cluster].similarity, 4),
            "size": len(rows),
            "rows": rows[:8],
            "labels": sorted({str(labels[row]) for row in rows}),
            "splits": sorted({splits[row] for row in rows}),
        }
        for cluster, rows in members.items()
    ]
    told.sort(key=lambda c: (-len(c["splits"]), -len(c["labels"]), -c["size"], c["rows"]))
    return {"counts": dict(counts), "clusters": told[:most]}


def _slips(draft: Draft, dictionary: Dictionary) -> list[str]:
    """What looks like a slip in how a source was read: words for the first lines of the datasheet."""
    told, sources = [], draft.column("source")
    columns = {name: draft.column(name) for name in ("label", *draft.attributes())}
    for source in dict.fromkeys(sources):
        entry = entry_for(dictionary, source) if source in dictionary or "*" in dictionary else None
        rows = [row for row, name in enumerate(sources) if name == source]
        labels = {columns["label"][row] for row in rows} - {None}
        if entry:
            for name in sorted(needed_columns(entry) - {"caption"}):
                if not any(columns[name][row] for row in rows if name in columns):
                    told.append(
                        f"{source}: its captions should name its {name}, which no image has"
                    )
            words = entry.words.get("label", {})
            parts = {part for label in labels for part in label.split("|")}
            if words and parts and not parts & words.keys():
                some = ", ".join(sorted(parts)[:5])
                told.append(f"{source}: the dictionary lists none of its labels ({some})")
        masks = [row for row in rows if _MASK.search(draft.table["key"][row].as_py())]
        if masks and len(masks) < len(rows):
            told.append(
                f"{source}: {len(masks)} files are called like masks, such as "
                f"{draft.table['key'][masks[0]]}: leave them out by --exclude if they are"
            )
    return told


def _keyed_captions(draft: Draft) -> Iterator[tuple[str, str]]:
    return zip(draft.column("key"), draft.column("caption"), strict=True)


def _total(found: Sequence[Source]) -> int | None:
    """How many items there will be, where that is quickly known."""
    counts = [source.count() for source in found]
    return None if None in counts else sum(count or 0 for count in counts)


def _bytes(found: Sequence[Source]) -> int:
    """Size of all sources' files on the disk."""
    files = (walk(source.path) if source.path.is_dir() else [source.path] for source in found)
    return sum(path.stat().st_size for some in files for path in some if path.exists())
