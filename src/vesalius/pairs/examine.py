"""What a pairs table will hold and what is wrong with it: everything short of writing it."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vesalius._version import __version__
from vesalius.core.atomic import MARKER, atomic_path, remove
from vesalius.errors import VesaliusError
from vesalius.images.copy_detector import embed
from vesalius.images.duplicates import (
    Duplicate,
    clusters,
    embedding_duplicates,
    find_duplicates,
    spanning,
)
from vesalius.images.pixels import THUMB, open_rgb
from vesalius.pairs import tokens
from vesalius.pairs.captions import (
    Dictionary,
    entry_for,
)
from vesalius.pairs.compose import HIDDEN, Draft, compose, join
from vesalius.pairs.datasheet import describe
from vesalius.pairs.deidentify import (
    Deidentifier,
    Pseudonyms,
    hidden_groups,
    load_pseudonyms,
    swept,
    without_identities,
)
from vesalius.pairs.divide import USUAL, divide, far_from_asked, fold, thin, without_unknown_splits
from vesalius.pairs.leaks import find_leaks, longest_chain, safe_groups
from vesalius.pairs.readers import Source
from vesalius.pairs.scan import CONTENT, open_part, scan
from vesalius.pairs.settings import PairsSettings
from vesalius.pairs.slips import find_slips
from vesalius.pairs.splits import names_patient, parse_split

# Parts of the datasheet in which a source's paths or texts may name a patient.
_MAY_NAME = ("command", "options", "skipped", "warnings", "findings", "leaks")
TABLE_FORMAT = 3  # raised when the same input would give another table


OnImages = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Examined:
    """A table that is ready to be written, and what was found out about it."""

    draft: Draft
    document: dict[str, Any]  # of the datasheet

    def picture(self, row: int) -> Image.Image:
        """The image of a row, 8-bit RGB."""
        return open_rgb(self.draft.image(row))


def examine(
    found: Sequence[Source],
    dictionary: Dictionary,
    work: Path,
    options: PairsSettings,
    *,
    strict: bool = False,
    command: str | None = None,
    on_images: OnImages | None = None,
    pseudonyms: Pseudonyms | None = None,
) -> Examined:
    """Do everything but write the table; scanned parts stay in the folder `work`.

    Splits are drawn before groups are hashed: they do not depend on the key.
    """
    pseudonyms = pseudonyms or load_pseudonyms(options.identity_key)
    counter = _counter(found, dictionary, options)
    cleaner = Deidentifier(pseudonyms, tuple(filter(None, [options.reading.group_column])))
    draft, notes = _gather(found, dictionary, work, options, counter, cleaner, strict, on_images)
    draft = without_unknown_splits(draft, options.split)
    if not len(draft):
        why = "{}: {}: {}".format(*draft.skipped[-1]) if draft.skipped else "there is no row"
        raise VesaliusError(f"no image can be used: {why}")
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
    warnings = []
    if options.duplicates != "keep":
        united = safe_groups(own_groups, duplicates)
        draft = draft.with_column("group", united, pa.string())
        if chain := longest_chain(own_groups, united):
            warnings.append(
                f"{chain.rows} images ({chain.share:.0%}) of {chain.groups} groups are held together "
                "by near-duplicates, so they all go to one split: look at the duplicates, and use "
                "--duplicates keep if they only look alike"
            )
    draft, missing = _divided(draft, options)
    draft, own_groups = _hidden(draft, own_groups, pseudonyms)
    warnings = [*notes, *find_slips(draft, dictionary), *warnings, *missing]
    document = _document(draft, duplicates, own_groups, warnings, options, counter) | {
        "command": command,
        "fingerprint": fingerprint(options, dictionary, found, _scanned(draft.parts, CONTENT)),
        "source_fingerprint": fingerprint(
            options, dictionary, found, _scanned(draft.parts, ("key", "stamp"))
        ),
        "identity_key": pseudonyms.check() if options.identity_key else None,
    }
    said = {name: document[name] for name in _MAY_NAME}
    document |= swept(said, draft.column(HIDDEN), pseudonyms)
    return Examined(draft, document)


def _counter(
    found: Sequence[Source], dictionary: Dictionary, options: PairsSettings
) -> tokens.TokenCounter | None:
    """The text encoder chosen, with the window that the dictionary's reports are for where it is theirs."""
    if options.text_encoder == "none":
        return None
    counter = tokens.load_counter(options.text_encoder)
    reports = [
        entry_for(dictionary, source.name).report for source in found if not source.one_of_many
    ]
    own = [one.tokens for one in reports if one and one.encoder == options.text_encoder]
    windows = [window for window in own if window and window > counter.window]
    if not windows or len(windows) < len(reports):
        return counter
    return replace(counter, name=f"the encoder of {options.captions}", window=max(windows))


def _divided(draft: Draft, options: PairsSettings) -> tuple[Draft, list[str]]:
    """The draft with its splits and folds, and what was asked of them in vain."""
    missing = []
    draft = divide(
        draft, options.split, stratify=options.stratify, seed=options.seed, test=options.test
    )
    if options.test and (lost := _not_there(draft, options.test)):
        missing.append(f"{lost} of the {len(options.test)} rows that --test-rows names are missing")
    if message := far_from_asked(draft, options.split):
        missing.append(message)
    draft = thin(draft, shots=options.shots, fraction=options.fraction, seed=options.seed)
    if options.folds:
        draft = fold(draft, options.folds, options.seed)
    return draft, missing


def _hidden(draft: Draft, own_groups: list[str], pseudonyms: Pseudonyms) -> tuple[Draft, list[str]]:
    """The draft and the sources' own groups with hashes for patients, in files' names too."""
    identities, sources = draft.column(HIDDEN), draft.column("source")
    sha1s, keys = draft.column("sha1"), draft.column("key")
    names = hidden_groups(sources, own_groups, sha1s, identities, pseudonyms)
    groups = [names.get(group, group) for group in draft.column("group")]
    keys = without_identities(keys, identities, pseudonyms)
    draft = draft.with_column("group", groups, pa.string()).with_column("key", keys, pa.string())
    return draft, [names.get(group, group) for group in own_groups]


def _not_there(draft: Draft, marks: tuple[str, ...]) -> int:
    """How many of the rows that were named the table does not have."""
    return len(set(marks).difference(draft.column("sha1"), draft.column("key")))


def _gather(
    found: Sequence[Source],
    dictionary: Dictionary,
    work: Path,
    options: PairsSettings,
    counter: tokens.TokenCounter | None,
    cleaner: Deidentifier,
    strict: bool,
    on_images: OnImages | None,
) -> tuple[Draft, list[str]]:
    """Every source scanned and captioned, and the readers' notes.

    Of several tables, one that cannot be read is skipped.
    """
    drafts: list[Draft] = []
    notes: list[str] = []
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
            entry_for(dictionary, source.name)  # or there is none, which is said before the scan
            parts = scan(
                source.items(options.reading, notes.append),
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
        chosen = cleaner if _is_deidentified(parts, options) else None
        drafts.append(compose(source.name, parts, dictionary, counter, pattern, chosen))
    draft = join(drafts, unread)
    if strict and draft.skipped:
        source, key, reason = draft.skipped[0]
        raise VesaliusError(f"{source}: {key}: {reason} (--strict stops at it)")
    return draft, notes


def _is_deidentified(parts: Sequence[Path], options: PairsSettings) -> bool:
    """Whether a source is: as asked, else where a key is asked for or it holds DICOM of patients."""
    if options.deidentify is not None or options.identity_key:
        return options.deidentify is not False
    columns = (open_part(path)["identities"] for path in parts)
    return any(column.null_count < len(column) for column in columns)


def _document(
    draft: Draft,
    duplicates: list[Duplicate],
    own_groups: list[str],
    warnings: list[str],
    options: PairsSettings,
    counter: tokens.TokenCounter | None,
) -> dict[str, Any]:
    """The datasheet of a divided draft; leaks are sought by the sources' own groups."""
    splits, labels = draft.column("split"), draft.column("label")
    sources_of = draft.column("source")
    wanted = () if options.split == "own" else _drawn(options.split)
    have = set(zip(sources_of, splits, strict=True))
    warnings = [
        *warnings,
        *(
            f"no image of {source} is in {name}: there are too few groups"
            for source in dict.fromkeys(sources_of)
            for name in wanted
            if (source, name) not in have
        ),
    ]
    leaks = find_leaks(draft.column("key"), labels, own_groups, splits, duplicates)
    facts = {
        "version": __version__,
        "options": {
            k: v for k, v in asdict(options).items() if k not in ("reading", "identity_key")
        }
        | asdict(options.reading)
        | {"test": len(options.test)},  # rows; their keys may name patients
        "tokens": counter and tokens.budget(_keyed_captions(draft), counter),
        "duplicates": _told(duplicates, labels, splits),
        "leaks": [asdict(leak) | {"source": sources_of[leak.rows[0]]} for leak in leaks],
        "warnings": warnings,
    }
    hidden = [
        name
        for name in ("part", "offset", "row", "sha1", "symmetry", "fold", HIDDEN)
        if name in draft.table.column_names
    ]
    groups = draft.column("group")
    known = names_patient(sources_of, groups, draft.column("sha1"))
    patients = [group if named else None for group, named in zip(groups, known, strict=True)]
    table = draft.with_column("group", patients, pa.string()).table.drop_columns(hidden)
    if len(set(sources_of)) > 1:  # `normal` is not one class
        pairs = zip(labels, sources_of, strict=True)
        names = [label and f"{label} ({source})" for label, source in pairs]
        table = table.set_column(
            table.column_names.index("label"), "label", pa.array(names, pa.string())
        )
    return describe(table, draft.skipped, facts=facts)


def _drawn(split: str) -> Iterable[str]:
    """The splits that `divide` draws."""
    return USUAL if split == "auto" else parse_split(split)


def _same_work(work: Path, options: PairsSettings, found: Sequence[Source]) -> None:
    """Keep what an earlier run left in `work` only if it read the same sources the same way."""
    about = [asdict(options.reading), [(s.name, str(s.path), s.reader) for s in found]]
    text, file = json.dumps([TABLE_FORMAT, *about], sort_keys=True), work / "about.json"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        for old in work.glob("*") if work.is_dir() else ():
            if old.name != MARKER:
                remove(old)
    with atomic_path(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def fingerprint(
    options: PairsSettings,
    dictionary: Dictionary,
    found: Sequence[Source],
    contents: Iterable[tuple[Any, ...]],
) -> str:
    """One hash of all that decides the table: options, dictionary, sources and their contents."""
    entries = {name: entry.model_dump() for name, entry in dictionary.items()}
    asked = asdict(options) | {"identity_key": options.identity_key is not None}
    about = [TABLE_FORMAT, asked, entries, [(s.name, s.reader) for s in found]]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for content in contents:
        digest.update(json.dumps(content).encode())
    return digest.hexdigest()


def listed_stamps(found: Sequence[Source], options: PairsSettings) -> Iterator[tuple[str, str]]:
    """Key and stamp of all items of the sources, which no image is read for."""
    for source in found:
        try:
            for item in source.items(options.reading):
                yield item.key, item.stamp
        except VesaliusError:
            if not source.one_of_many:
                raise


def _scanned(parts: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for path in parts:
        part = open_part(path)
        yield from zip(*(part[name].to_pylist() for name in names), strict=True)


def _duplicates(draft: Draft, work: Path) -> list[Duplicate]:
    with (work / "thumbs").open("wb") as file:  # written first, mapped then: a disk may be full
        for path, start, length in draft.by_part():
            offsets = draft.table["offset"].slice(start, length)
            chosen = open_part(path)["thumb"].take(offsets).combine_chunks()
            np.frombuffer(chosen.buffers()[1], np.uint8).tofile(file)
    thumbs = np.memmap(work / "thumbs", np.uint8, "r", shape=(len(draft), THUMB, THUMB))

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
            names = ", ".join(sorted({str(labels[row]) for row in (first, *others)}))
            dropped |= dict.fromkeys((first, *others), f"the same image is labelled {names}")
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
    listed = [
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
    listed.sort(key=lambda c: (-len(c["splits"]), -len(c["labels"]), -c["size"], c["rows"]))
    return {"counts": dict(counts), "clusters": listed[:most]}


def _keyed_captions(draft: Draft) -> Iterator[tuple[str, str]]:
    return zip(draft.column("key"), draft.column("caption"), strict=True)


def _total(found: Sequence[Source]) -> int | None:
    """How many items there will be, where that is quickly known."""
    counts = [source.count() for source in found]
    return None if None in counts else sum(count or 0 for count in counts)
