"""What a user must know first about a pairs table, from the document of its datasheet."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vesalius.core.words import plural
from vesalius.report.words import percent, sentence, thousands

SEVERITIES = ("error", "warning", "note")
FEW_IMAGES = 10  # a class with less in train is hardly learnt
LOW_SIDE = 128  # pixels of the shorter side
HIGH_V = 0.8  # Cramér's V from which label and attribute say nearly the same
TECHNICAL_V = 0.3  # that sizes and modes should not reach: no disease changes them
_GROUP_HINT = "give --group-"  # in what is said of columns and paths that may name patients
_SIZE = re.compile(r"\d+ ?x ?\d+")
# an attribute of such a name may be the label in other words
_LABEL_LIKE = re.compile("label|class|type|diagnos|finding|categor")
_LEAKS = {
    "group": "{n} groups (patients or lesions) have images in more than one split",
    "bytes": "{n} image files are in more than one split, byte for byte",
    "pixels": "{n} images are in more than one split, pixel for pixel",
    "near": "{n} pairs of nearly the same images are in two splits",
    "turned": "{n} pairs of images, one of them mirrored or rotated, are in two splits",
    "labels": "{n} images appear under more than one label",
}

_COPIES = {
    "bytes": "the same file",
    "pixels": "with the same pixels",
    "near": "nearly the same",
    "turned": "mirrored or rotated",
    "embedding": "alike to the copy detector",
}

Warned = tuple[str, str, str]  # severity, kind, message


def find_warnings(
    document: dict[str, Any], leaks: Sequence[dict[str, Any]]
) -> list[dict[str, str]]:
    """What a user must know first, as plain sentences, the worst before the others."""
    found = [*_about_use(document, leaks), *_about_labels(document), *_about_images(document)]
    found.sort(key=lambda warning: SEVERITIES.index(warning[0]))
    names = ("severity", "kind", "message")
    return [dict(zip(names, warning, strict=True)) for warning in found]


def verdict(found: Sequence[dict[str, str]]) -> str:
    """One line: whether the table can be used."""
    severities = Counter(warning["severity"] for warning in found)
    counted = [
        f"{n} {name}{'s' if n > 1 else ''}"
        for name in ("error", "warning")
        if (n := severities[name])
    ]
    if severities["error"]:
        return f"Not ready for training: {' and '.join(counted)}."
    return f"Usable with care: {counted[0]}." if counted else "Nothing speaks against its use."


def _about_use(document: dict[str, Any], leaks: Sequence[dict[str, Any]]) -> Iterator[Warned]:
    """What stands in the way of using the table at all: leaks, privacy, what was left out."""
    images, skipped = document["images"], document["skipped"]
    if not images:
        yield "error", "empty", "The table holds no image."
    elif not document["splits"]["train"]:
        yield "error", "splits", "No image is in train."
    for (severity, kind), n in Counter((leak["severity"], leak["kind"]) for leak in leaks).items():
        text = _LEAKS.get(kind, "{n} leaks of the kind " + kind).format(n=thousands(n))
        of_kind = [leak for leak in leaks if leak["kind"] == kind]
        where = Counter(leak["source"] for leak in of_kind if "source" in leak)
        if where and len(document["sources"]) > 1:
            text += f" ({', '.join(f'{name} {thousands(k)}' for name, k in where.most_common(6))})"
        yield severity, "leak", sentence(of_kind[0]["message"] if n == 1 else text)
    privacy = document["privacy"]
    if privacy["identified"]:
        tags = _listed(tag["name"] for tag in privacy["identity_tags"])
        yield (
            "warning",
            "privacy",
            f"Images whose source files name the patient ({tags}): {thousands(privacy['identified'])}. "
            "Do not pass those files on.",
        )
    if removed := privacy["removed"]:
        names = _listed(f"{one['name']} {thousands(one['images'])}" for one in removed)
        yield "note", "privacy", f"Removed before images and rows were stored: {names}."
    if privacy["burned_in"]:
        yield (
            "warning",
            "privacy",
            f"Images marked as having text burned in: {thousands(privacy['burned_in'])}. It may name the "
            "patient: look at them before anything is trained or shared.",
        )
    for warning in document["warnings"]:
        if document["groups"]["count"] or _GROUP_HINT not in warning:
            yield "warning", "preparation", sentence(warning)
    if skipped["count"]:
        share = skipped["count"] / (skipped["count"] + images)
        reason = skipped["reasons"][0]
        yield (
            "warning" if share > 0.05 else "note",
            "skipped",
            f"Rows and files that are left out: {thousands(skipped['count'])} ({percent(share)}). The "
            f"commonest reason ({thousands(reason['rows'])}): {reason['name']}.",
        )


def _about_labels(document: dict[str, Any]) -> Iterator[Warned]:
    """What makes classes hard to learn or to measure, or easy for the wrong reason."""
    labels = [label for label in document["labels"] if label["name"] is not None]
    unlabelled = document["images"] - sum(label["images"] for label in labels)
    if labels and unlabelled:
        yield "note", "labels", f"Images without a label: {thousands(unlabelled)}."
    learnt = sorted(labels, key=lambda label: -label["train"])
    if small := [label for label in learnt if label["train"] < FEW_IMAGES]:
        names = _listed(f"{label['name']} {label['train']}" for label in small)
        yield "warning", "classes", f"Fewer than {FEW_IMAGES} images in train: {names}."
    for split in ("val", "test"):
        drawn = [source["name"] for source in document["sources"] if source[split]]
        lacking = [
            label["name"]
            for label in labels
            if not label[split] and _is_of(label["name"], drawn, len(document["sources"]))
        ]
        if lacking:
            yield "warning", "classes", f"No image in {split}: {_listed(lacking)}."
    learnt = [label for label in learnt if label["train"]]
    if len(learnt) > 1 and (ratio := learnt[0]["train"] / learnt[-1]["train"]) >= 3:
        yield (
            "warning" if ratio >= 10 else "note",
            "imbalance",
            f"The largest class in train has {ratio:.0f} times the images of the smallest: "
            f"{learnt[0]['name']} {thousands(learnt[0]['train'])}, "
            f"{learnt[-1]['name']} {thousands(learnt[-1]['train'])}.",
        )
    for one in document["associations"]:
        technical = one["attribute"] in ("image size", "mode", "bits") or _SIZE.fullmatch(
            one["value"]
        )
        if one["cramers_v"] > (TECHNICAL_V if technical else HIGH_V):
            yield _confounded(one)


def _is_of(label: str, sources: Sequence[str], of_all: int) -> bool:
    """Whether a label belongs to one of `sources`; of several, it has their name behind it."""
    return bool(sources) if of_all == 1 else any(label.endswith(f"({name})") for name in sources)


def _confounded(one: dict[str, Any]) -> Warned:
    most, least = one["most"], one["least"]
    return (
        "note" if _LABEL_LIKE.search(one["attribute"].lower()) else "warning",
        "confounded",
        f"In {one['source']}, {one['attribute']} goes with the label (Cramér's V "
        f"{one['cramers_v']:.2f}): it is {one['value']} in {percent(most['share'])} of "
        f"{most['label']} and in {percent(least['share'])} of {least['label']}.",
    )


def _about_images(document: dict[str, Any]) -> Iterator[Warned]:
    """Groups, captions, copies and sizes."""
    images, captions, groups = document["images"], document["captions"], document["groups"]
    if images and not groups["count"] and _is_synthetic(document):
        yield "note", "groups", "These images are synthetic: no patient is named."
    elif images and not groups["count"]:
        hints = [sentence(one) for one in document["warnings"] if _GROUP_HINT in one]
        usual = (
            "Name the column by --group-column, or find the patient in the files' paths by "
            "--group-pattern."
        )
        yield (
            "warning",
            "groups",
            f"No image says whose it is: these are {thousands(images)} images of an unknown number of "
            f"patients, and a split may cut through one. {' '.join(hints) or usual}",
        )
    elif groups["images_without"]:
        text = f"Images without a patient or lesion: {thousands(groups['images_without'])}"
        yield "note", "groups", f"{text}. Each counts as a group of its own."
    if captions["missing"]:
        yield "warning", "captions", f"Images without a caption: {thousands(captions['missing'])}."
    if captions["distinct"] == 1 and images > 1:
        labelled = any(label["name"] is not None for label in document["labels"])
        hint = (
            ""
            if labelled
            else (
                " No image has a label either: if a table says what the images are, name its column by "
                "--label-column or --caption-column."
            )
        )
        yield (
            "note" if labelled else "warning",
            "captions",
            f"All captions are the same: a prompt will make no difference.{hint}",
        )
    tokens = document["tokens"]
    if tokens and tokens["cut"]:
        share = tokens["cut"] / tokens["captions"]
        yield (
            "warning" if share > 0.01 else "note",
            "captions",
            f"Captions longer than the {tokens['window']} tokens that {tokens['encoder']} reads: "
            f"{thousands(tokens['cut'])} ({percent(share)}). Their ends are lost "
            "(another encoder: --text-encoder NAME, or none).",
        )
    if low := document["sizes"]["low"]:
        yield (
            "warning" if low > 0.1 * images else "note",
            "sizes",
            f"Images under {LOW_SIDE} pixels on their shorter side: {thousands(low)} "
            f"({percent(low / images)}).",
        )
    if copies := {kind: n for kind, n in document["duplicates"]["counts"].items() if n}:
        kinds = ", ".join(
            f"{plural(n, 'pair')} {_COPIES.get(kind, kind)}" for kind, n in copies.items()
        )
        yield "note", "duplicates", f"Some images are there more than once: {kinds}."


def _is_synthetic(document: dict[str, Any]) -> bool:
    """Whether every image says of itself that it is."""
    said = next((one for one in document["attributes"] if one["name"] == "synthetic"), None)
    values = [value["name"] for value in said["commonest"]] if said else []
    return bool(said) and said["missing"] == 0 and values == ["true"]


def _listed(names: Iterable[str], most: int = 6) -> str:
    every = list(names)
    more = f"; and {thousands(len(every) - most)} more" if len(every) > most else ""
    return "; ".join(every[:most]) + more  # labels of several findings hold commas
