"""`export/`: answers joined with the key, readers, and the format of iMRMC, for other programs."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.callable_room import callable_as
from vesalius.study.joining import Material, read_material
from vesalius.study.judgements import FAKE, REAL, Judgement, Person
from vesalius.study.layout import open_study
from vesalius.study.standing import remarks

callable_as(__name__, f"{__name__}:export")

ANSWERS, READERS, IMRMC, COLUMNS = "answers.csv", "readers.csv", "imrmc.csv", "columns.csv"
_NEEDED_BYTES = 50_000_000
_NOT_EXPORTED = ("prompt",)  # of a judgement: long, and in the key

MEANINGS = {
    "reader": "name of the reader in the study; who that is stands nowhere here",
    "specialty": "of the reader",
    "years": "in the specialty, as the reader said",
    "task": "turing, pair, quality, alignment or diagnosis",
    "phase": "training, unaware (before synthetic images were named) or reading",
    "kind": "scored; repeat, fake (gross), same (two real ones); training is not analysed",
    "position": "place in the reader's own order, from 0",
    "trial": "number of the trial",
    "item_left": "image, or the left one of a pair: images/NAME.png",
    "item_right": "right image of a pair",
    "arm": "of the left image: real, synthetic or synthetic:SET, reconstructed, fake",
    "arm_right": "of the right image of a pair",
    "set": "synthetic set of the left image",
    "set_right": "of the right image of a pair",
    "label": "class of the image; of a synthetic one what it was made for",
    "truth": "right answer; empty where there is none",
    "value": "the answer",
    "confidence": "1 (unsure) to 3 (sure); of turing and diagnosis",
    "score": "of turing, 1 (surely real) to 6 (surely synthetic), for ROC curves",
    "correct": "1 where value is truth, 0 where not, empty where there is no truth",
    "details": "of alignment: positions of the words ticked as wrong, from 0, as a JSON list",
    "seconds": "that the images were visible",
    "shown_at": "seconds since 1970, UTC",
    "submitted_at": "seconds since 1970, UTC",
    "changes": "earlier answers to the same trial that were undone",
    "zoomed": "1 where the image was zoomed",
    "windowed": "1 where brightness or contrast was changed",
    "repeat_of": "trial that this one repeats",
    "counts": "1 for the answer that counts, 0 for one that was undone",
    "seen_before": "whether the reader knew such images, as the reader said",
    "trials": "of the reader, training included",
    "answered": "trials with an answer that counts",
    "consented_at": "seconds since 1970, UTC",
    "started_at": "seconds since 1970, UTC",
    "finished_at": "seconds since 1970, UTC; empty where the reader has not ended",
    "readerID": "reader, or truth",
    "caseID": "image",
    "modalityID": "synthetic set that stands against the real images, or truth",
    "score ": "of a reader 1 to 6 as above; of truth 1 for synthetic, 0 for real",
}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    answers: int
    readers: int
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        return "\n".join(
            [f"{self.answers:,} answers of {self.readers} readers in {self.folder}", *self.notes]
        )


def export(
    folder: Path | str,
    *,
    unfinished: bool = False,
    on_warning: Callable[[str], object] = lambda message: None,
) -> Exported:
    """Write STUDY/export: answers.csv, readers.csv, imrmc.csv and columns.csv, which says what is what.

    Raises VesaliusError where the study changed after its lock, or where readers have not ended, unless
    `unfinished`, which the study's log keeps.
    """
    layout = open_study(folder)
    material = read_material(layout, unfinished=unfinished, what="exported")
    for remark in remarks(material):
        if remark.status == "warning":
            on_warning(remark.message)
    with clear_write_errors(layout.export, _NEEDED_BYTES), atomic_path(layout.export) as made:
        made.mkdir()
        write_tables(made, material)
    return Exported(layout.export, len(material.judgements), len(material.people))


def write_tables(folder: Path, material: Material) -> None:
    """The four files."""
    of_answers = [f.name for f in fields(Judgement) if f.name not in _NOT_EXPORTED]
    of_people = [f.name for f in fields(Person)]
    _write(folder / ANSWERS, of_answers, material.judgements)
    _write(folder / READERS, of_people, material.people)
    rows = list(imrmc_rows(material.judgements))
    _write_rows(folder / IMRMC, ("readerID", "caseID", "modalityID", "score"), rows)
    _write_rows(folder / COLUMNS, ("file", "column", "meaning"), _dictionary(of_answers, of_people))


def imrmc_rows(judgements: Sequence[Judgement]) -> Iterator[tuple[str, str, str, int]]:
    """Truth of each case, then scores; each synthetic set is a modality beside the same real images."""
    scored = [
        e
        for e in judgements
        if e.counts and e.kind == "scored" and e.phase == "reading" and e.score is not None
    ]
    sets = sorted({e.arm for e in scored} - {REAL, FAKE})
    for item, arm in sorted({(e.item_left, e.arm) for e in scored}):
        yield "truth", item, "truth", int(arm != REAL)
    for each in scored:
        for modality in sets if each.arm == REAL else [each.arm]:
            yield each.reader, each.item_left, modality, int(each.score or 0)


def _dictionary(answers: Sequence[str], people: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for file, names in (
        (ANSWERS, answers),
        (READERS, people),
        (IMRMC, ("readerID", "caseID", "modalityID", "score ")),
    ):
        for name in names:
            yield file, name.strip(), MEANINGS[name]


def _write(path: Path, names: Sequence[str], rows: Sequence[Any]) -> None:
    _write_rows(path, names, ([_cell(getattr(row, name)) for name in names] for row in rows))


def _write_rows(path: Path, names: Sequence[str], rows: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def _cell(value: Any) -> Any:
    """None is empty, truth 1 or 0; a text that a spreadsheet would take for a formula gets a quote."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value
