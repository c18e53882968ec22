"""The datasheet of a pairs table: what is in it, and what to know before using it.

`describe` gives the facts as one JSON document, `write_datasheet` lays them out as a page. Neither
knows the time: the same table gives the same bytes.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions only as it is imported

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from vesalius.core.atomic import atomic_path
from vesalius.core.documents import write_document, write_page
from vesalius.pairs.associations import associations, codes
from vesalius.pairs.warnings import LOW_SIDE, SEVERITIES, find_warnings, verdict
from vesalius.report.datasheet import CLASSES_SHOWN, datasheet_page
from vesalius.report.plots import round_step

SPLITS = ("train", "val", "test", "unused")
MOST_SAMPLES = 12  # pictures of a class that a document names
MOST_NAMED = 1_000  # skipped rows and leaks that the document names
MOST_IMAGES = 8  # of one leak or cluster that the document names

MOST_VALUES = 50  # an attribute of more is an identifier or free text

_TEXT = ("source", "key", "label", "caption", "group", "split", "mode", "notes")
_CORE = {*_TEXT, "width", "height", "bits", "bytes"}  # every other column is an attribute
_NUMBER = r"^-?\d{1,15}(\.\d+)?$"


def describe(
    table: pa.Table, skipped: Sequence[tuple[str, str, str]], *, facts: dict[str, Any]
) -> dict[str, Any]:
    """What a pairs table holds, as a JSON document whose `findings` come worst first.

    Args:
        table: one row an image, without the images: `source`, `key`, `label`, `caption`, `group`,
            `split` (train, val, test or unused), `width`, `height` (pixels), `mode`, `bits` (of the
            source), `notes` ("a; b"), `bytes`; every other column is an attribute, as text.
        skipped: source, key and reason of what gave no image.
        facts: what was computed elsewhere and is taken over: `pairs`, `command`, `version`,
            `options`, `fingerprint`, `tokens`, `duplicates`, `leaks` and `warnings`. Rows in
            `leaks` and `duplicates` are indices into `table`; the images get their names here.
    """
    labels = _by_split(_texts(table, "label"), table["split"])
    samples = _samples(table, [label["name"] for label in labels[:CLASSES_SHOWN]])
    duplicates = facts.get("duplicates") or {"counts": {}, "clusters": []}
    leaks = sorted(facts.get("leaks") or [], key=lambda leak: SEVERITIES.index(leak["severity"]))
    document: dict[str, Any] = {
        **{name: facts.get(name) for name in ("pairs", "command", "version", "fingerprint")},
        "options": facts.get("options") or {},
        "images": table.num_rows,
        "bytes": pc.sum(table["bytes"]).as_py() or 0,
        "splits": _counted(table["split"], SPLITS),
        "sources": _by_split(_texts(table, "source"), table["split"]),
        "labels": labels,
        "groups": _groups(table),
        "sizes": _sizes(table),
        "modes": _top(table["mode"], 10),
        "bits": _top(table["bits"].cast(pa.string()), 10),
        "notes": _top(_split(_texts(table, "notes"), "; "), 20),
        "captions": _captions(table, samples),
        "attributes": [_attribute(name, _texts(table, name)) for name in _attributes(table)],
        "associations": associations(
            _texts(table, "label"), _texts(table, "source"), _comparable(table)
        ),
        "privacy": _privacy(table),
        "skipped": _skipped(skipped),
        "tokens": facts.get("tokens"),
        "duplicates": {
            "counts": duplicates["counts"],
            "clusters": [_with_images(table, cluster) for cluster in duplicates["clusters"]],
        },
        "leaks": {
            "count": len(leaks),
            "kinds": dict(sorted(Counter(leak["kind"] for leak in leaks).items())),
            "listed": [_with_images(table, leak) for leak in leaks[:MOST_NAMED]],
        },
        "warnings": list(facts.get("warnings") or []),
        "samples": [
            {"label": name, "images": _named(table, rows)} for name, rows in samples.items()
        ],
    }
    document["findings"] = find_warnings(document, leaks)
    document["verdict"] = verdict(document["findings"])
    return document


def write_datasheet(
    document: dict[str, Any],
    image: Callable[[int], Image.Image],
    out_html: Path,
    out_json: Path,
    *,
    samples: int = 6,
) -> None:
    """Write the document of `describe` as JSON and as one HTML page that needs no other file.

    Args:
        document: what `describe` returned.
        image: gives the picture of a row, 8-bit grey or RGB; a VesaliusError leaves a blank.
        out_html: the page.
        out_json: the document.
        samples: pictures of each class, at most MOST_SAMPLES. 0 keeps every picture out of the
            page, those of leaks and duplicates too.
    """
    page = datasheet_page(document, image, samples=samples)
    with atomic_path(out_json) as json_path, atomic_path(out_html) as html_path:
        write_document(json_path, document)
        write_page(html_path, page)


def _attributes(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in _CORE]


def _texts(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column as text, the empty text missing."""
    column = table[name].cast(pa.string())
    empty = pc.equal(column, "")
    if not pc.any(empty).as_py():
        return column  # captions and reports are large: no copy without need
    return pc.if_else(empty, pa.scalar(None, pa.string()), column)


def _split(column: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    return pc.list_flatten(pc.split_pattern(column.drop_null(), separator))


def _top(column: pa.ChunkedArray, most: int) -> list[dict[str, Any]]:
    """The commonest values and how many images have them."""
    values, counts = pc.value_counts(column.drop_null()).flatten()
    both = pa.table({"name": values, "images": counts})
    order = [("images", "descending"), ("name", "ascending")]
    return both.take(pc.select_k_unstable(both, most, order)).to_pylist()


def _counted(column: pa.ChunkedArray, names: Sequence[str]) -> dict[str, int]:
    counts = {row["name"]: row["images"] for row in _top(column, len(names))}
    return {name: counts.get(name, 0) for name in names}


def _by_split(names: pa.ChunkedArray, splits: pa.ChunkedArray) -> list[dict[str, Any]]:
    """Images of each name, altogether and in each split; the commonest name first."""
    both = pa.table({"name": names, "split": splits}).group_by(["name", "split"])
    rows: dict[str | None, dict[str, int]] = {}
    for row in both.aggregate([([], "count_all")]).to_pylist():
        rows.setdefault(row["name"], dict.fromkeys(SPLITS, 0))[row["split"]] += row["count_all"]
    named = [{"name": name, "images": sum(row.values()), **row} for name, row in rows.items()]
    return sorted(named, key=lambda row: (-row["images"], row["name"] or ""))


def _groups(table: pa.Table) -> dict[str, Any]:
    groups = _texts(table, "group")
    both = pa.table({"group": groups, "split": table["split"]}).filter(pc.is_valid(groups))
    return {
        "count": pc.count_distinct(groups).as_py(),
        "splits": _counted(both.group_by(["group", "split"]).aggregate([])["split"], SPLITS),
        "images_without": groups.null_count,
        "largest": [row["images"] for row in _top(groups, 5)],  # not whose: they may be patients
    }


def _summary(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    summary = {"min": values.min(), "median": np.median(values), "max": values.max()}
    return {name: round(float(value), 2) for name, value in summary.items()}


def _histogram(values: np.ndarray) -> dict[str, list[int]]:
    """About twenty bins of whole numbers; bin i holds edges[i] <= value < edges[i + 1]."""
    if not len(values):
        return {"edges": [], "counts": []}
    low, high = int(values.min()), int(values.max())
    step = max(1, round(round_step(high - low, 20)))
    edges = np.arange(low // step * step, high + step + 1, step)
    return {"edges": edges.tolist(), "counts": np.histogram(values, edges)[0].tolist()}


def _size_names(table: pa.Table) -> pa.ChunkedArray:
    width, height = (table[name].cast(pa.string()) for name in ("width", "height"))
    return pc.binary_join_element_wise(width, height, " x ")


def _sizes(table: pa.Table) -> dict[str, Any]:
    width, height = table["width"].to_numpy(), table["height"].to_numpy()
    shorter = np.minimum(width, height)
    return {
        "shorter_side": _summary(shorter),
        "low": int((shorter < LOW_SIDE).sum()),
        "widths": _histogram(width),
        "heights": _histogram(height),
        "distinct": pc.count_distinct(_size_names(table)).as_py(),
        "commonest": _top(_size_names(table), 8),
    }


def _samples(table: pa.Table, labels: Sequence[str | None]) -> dict[str | None, list[int]]:
    """Rows of each label, in the order of a hash of their names: spread, and stable as rows come."""
    digests = bytearray()
    for batch in table.select(["source", "key"]).to_batches(max_chunksize=10_000):
        for source, key in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digests += hashlib.blake2b(f"{source}/{key}".encode(), digest_size=8).digest()
    order = np.argsort(np.frombuffer(digests, ">u8"), kind="stable")
    label_codes, values = codes(_texts(table, "label"))
    label_codes = label_codes[order]
    known = {value: code for code, value in enumerate(values)}
    wanted = {label: -1 if label is None else known[label] for label in labels}
    return {
        label: order[np.flatnonzero(label_codes == code)[:MOST_SAMPLES]].tolist()
        for label, code in wanted.items()
    }


def _named(table: pa.Table, rows: Sequence[int]) -> list[dict[str, Any]]:
    picked = table.select(["source", "key", "label", "split"]).take(pa.array(rows, pa.int64()))
    return [{"row": row, **names} for row, names in zip(rows, picked.to_pylist(), strict=True)]


def _with_images(table: pa.Table, fact: dict[str, Any]) -> dict[str, Any]:
    return {**fact, "images": _named(table, fact["rows"][:MOST_IMAGES])}


def _captions(table: pa.Table, samples: dict[str | None, list[int]]) -> dict[str, Any]:
    captions = _texts(table, "caption")
    words = pc.count_substring_regex(captions.drop_null(), r"\S+").to_numpy()
    examples: dict[str, dict[str, Any]] = {}
    in_turn = (
        rows[turn] for turn in range(MOST_SAMPLES) for rows in samples.values() if rows[turn:]
    )
    for row in in_turn:
        text = captions[row].as_py()
        if text and text not in examples and len(examples) < 12:
            examples[text] = {**_named(table, [row])[0], "caption": text}
    return {
        "distinct": pc.count_distinct(captions).as_py(),
        "missing": captions.null_count,
        "words": _summary(words),
        "histogram": _histogram(words),
        "examples": list(examples.values()),
    }


def _is_identifier(name: str) -> bool:
    return name.lower().endswith("id")  # patient_id, PatientID, StudyInstanceUID


def _attribute(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    """Values that single out images or patients are counted, but not listed."""
    distinct = pc.count_distinct(column).as_py()
    top = [row for row in _top(column, 8) if row["images"] > 1 or distinct <= 8]
    identifier = _is_identifier(name)
    return {
        "name": name,
        "missing": column.null_count,
        "distinct": distinct,
        "commonest": [] if identifier else top,
        "numbers": None if identifier else _numbers(column.drop_null()),
    }


def _numbers(column: pa.ChunkedArray) -> dict[str, float] | None:
    """The range of a column that holds numbers with few exceptions ("90+")."""
    numbers = column.filter(pc.match_substring_regex(column, _NUMBER))
    if len(numbers) < 0.9 * len(column):
        return None
    return _summary(numbers.cast(pa.float64()).to_numpy())


# What readers say of how an image was taken from its file; it cannot mislead a classifier.
_OF_READERS = {"window", "slice", "spacing", "plane", "folder", "identity_tags"}


def _comparable(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """What is compared to the label: properties of the images, and attributes of few values."""
    yield "image size", _size_names(table)
    yield "mode", _texts(table, "mode")
    yield "bits", _texts(table, "bits")
    most_values = min(MOST_VALUES, table.num_rows // 4)
    for name in _attributes(table):
        column = _texts(table, name)
        if name in _OF_READERS:
            continue
        if not _is_identifier(name) and pc.count_distinct(column).as_py() <= most_values:
            yield name, column


# What the notes of an image say of metadata and identities.
_REMOVED = " (removed|hashed|set to 90)$"


def _privacy(table: pa.Table) -> dict[str, Any]:
    """Images whose source says who they are of, by the attributes of the DICOM reader."""
    privacy: dict[str, Any] = {"identified": 0, "identity_tags": [], "burned_in": 0}
    notes = _split(_texts(table, "notes"), "; ")
    privacy["removed"] = _top(notes.filter(pc.match_substring_regex(notes, _REMOVED)), 50)
    if "identity_tags" in table.column_names:
        tags = _texts(table, "identity_tags")
        privacy["identified"] = len(tags) - tags.null_count
        privacy["identity_tags"] = _top(_split(tags, "|"), 30)
    if "burned_in" in table.column_names:
        burned = pc.equal(pc.utf8_lower(_texts(table, "burned_in")), "yes")
        privacy["burned_in"] = pc.sum(burned).as_py() or 0
    return privacy


def _skipped(skipped: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    reasons = Counter(reason for _, _, reason in skipped)
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    names = ("source", "key", "reason")
    return {
        "count": len(skipped),
        "reasons": [{"name": reason, "rows": rows} for reason, rows in ordered[:100]],
        "listed": [dict(zip(names, row, strict=True)) for row in skipped[:MOST_NAMED]],
    }
