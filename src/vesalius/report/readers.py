"""What readers said of a set, for the pages of other stages: the results of `vesalius study analyse`."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vesalius.core.documents import read_json
from vesalius.errors import VesaliusError
from vesalius.report.page import Remark
from vesalius.statistics.figure import POOLED

FORMAT = 1  # of a study's results.json
RESULTS, REPORT = "results.json", "report.html"
_GROUPS = ("reader", "label", "specialty", "years")
_SHOWN = (
    "accuracy", "sensitivity", "specificity", "fooling rate", "auc", "d'", "criterion",
    "real chosen", "d' (2AFC)", "worth", "mean rating", "difference", "fakes caught",
    "kappa between readers", "weighted kappa between readers",
)  # fmt: skip


def read_study(path: Path | str) -> dict[str, Any]:
    """The results of a study: of its folder, or of results.json itself. Raises VesaliusError for others."""
    path = Path(path)
    results = path / RESULTS if path.is_dir() else path
    if path.is_dir() and not results.is_file():
        raise VesaliusError(f"{path} has no {RESULTS}: make it by `vesalius study analyse {path}`")
    document = read_json(results)
    needed = ("study", "locked", "what", "figures", "sentences", "readers")
    if document.get("format") != FORMAT or not all(name in document for name in needed):
        raise VesaliusError(
            f"{results} is not of a reader study, or of another version of vesalius"
        )
    return document


def of_sets(
    path: Path | str, document: Mapping[str, Any], sets: Mapping[str, Collection[str]]
) -> dict[str, Any]:
    """What a study says of sets: sentences and figures over all readers, and whose images they saw.

    Args:
        path: of the study, as it was given.
        document: what `read_study` gave.
        sets: name to the SHA-1 of the image files, in hexadecimal.

    Raises VesaliusError where none of the study's synthetic images is in any of the sets.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    return {
        "report": str((folder / REPORT).absolute()),
        "study": document["study"],
        "locked": document["locked"],
        "title": document["what"]["title"],
        "readers": len([each for each in document["readers"] if each["answered"]]),
        "note": _whose(path, document["what"].get("sets", []), sets),
        "sentences": [s for s in document["sentences"] if s["status"] != "note"],
        "figures": [
            row
            for row in document["figures"]
            if row["metric"] in _SHOWN and all(row[name] == POOLED for name in _GROUPS)
        ],
    }


def shown(readers: Mapping[str, Any] | None, page: Path) -> dict[str, Any] | None:
    """What `of_sets` gave, for a page that will be at `page`: a link to the study's own beside it."""
    if readers is None:
        return None
    # what is wrong with the study, its verdicts, then how readers went about it
    order = sorted(readers["sentences"], key=lambda s: (bool(s["task"]), s["status"] == "warning"))
    said = [Remark(s["status"], s["message"]) for s in order]
    try:
        link = os.path.relpath(readers["report"], page.parent)
    except ValueError:  # another drive
        link = readers["report"]
    return {**readers, "said": said, "link": quote(Path(link).as_posix())}


def _whose(path: Path, judged: Any, sets: Mapping[str, Collection[str]]) -> str:
    """How many of the images that readers saw are in the sets, in words."""
    seen = {one["name"] or one["arm"]: set(one.get("sha1", [])) - {""} for one in judged}
    if not any(seen.values()):
        return "The study does not say which images its readers saw, so whether they are of this set cannot be known."  # fmt: skip
    said = []
    for name, images in seen.items():
        if not images:
            said.append(f"which images of {name} were shown is not known")
            continue
        inside = {own: len(images.intersection(keys)) for own, keys in sets.items()}
        best = max(inside, key=lambda own: inside[own])
        if inside[best]:
            said.append(f"{inside[best]} of the {len(images)} images of {name} that readers saw are in {best}")  # fmt: skip
        else:
            said.append(f"{name} of the study is not among these sets")
    if not any(images.intersection(keys) for images in seen.values() for keys in sets.values()):
        raise VesaliusError(
            f"--study {path}: none of the {sum(map(len, seen.values()))} synthetic images that its "
            f"readers saw is in {' or '.join(sets)}: it is of another set"
        )
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}."
