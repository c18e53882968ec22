"""Answers and key to figures, sentences, `results.json` and `report.html`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.callable_room import callable_as
from vesalius.core.documents import write_document, write_page
from vesalius.errors import VesaliusError
from vesalius.study.joining import Material, read_material
from vesalius.study.judgements import Block, blocks
from vesalius.study.layout import open_study
from vesalius.study.measures.diagnosis import diagnosis
from vesalius.study.measures.pair import pair
from vesalius.study.measures.rating import rating
from vesalius.study.measures.turing import turing
from vesalius.study.protocol import Protocol, Task
from vesalius.study.results import FORMAT, Found, Sentence, StudyResults
from vesalius.study.standing import remarks

callable_as(__name__, f"{__name__}:analyse")

_NEEDED_BYTES = 20_000_000
MEASURES: Mapping[str, Callable[[Block, Task], Found]] = {
    "turing": lambda block, task: turing(block, task.margin),
    "pair": lambda block, task: pair(block, task.margin, task.compare),
    "quality": lambda block, task: rating(block, task.margin),
    "alignment": lambda block, task: rating(block, task.margin),
    "diagnosis": lambda block, task: diagnosis(block, task.margin),
}
DIVERSITY = (
    "Readers judge one image or two at a time. How realistic these look says nothing of how much images "
    "differ from each other, whether rare findings are among them, or whether they are copies of real "
    "ones: that is for vesalius evaluate, beside which this study stands and which it cannot replace."
)


def analyse(
    folder: Path | str,
    *,
    unfinished: bool = False,
    command: str = "",
    on_warning: Callable[[str], object] = lambda message: None,
) -> StudyResults:
    """Figures and sentences of a study's answers; writes `results.json` and `report.html` in it.

    Args:
        folder: of the study, locked and read.
        unfinished: go on although readers have not ended; what is looked at is recorded.
        command: the command line, for the report.
        on_warning: gets what a user must know.

    Raises VesaliusError where the study changed after its lock, readers have not ended, or nobody has
    answered.
    """
    layout = open_study(folder)
    material = read_material(layout, unfinished=unfinished, what="analysed")
    found = measure_all(material)
    if not found:
        raise VesaliusError(
            f"{folder}: nobody has answered a question that counts: nothing to analyse"
        )
    standing = remarks(material)
    for remark in standing:
        if remark.status == "warning":
            on_warning(remark.message)
    sentences = [*standing, *_of_all(found)]
    document = as_document(material, found, sentences, command)
    _write(layout.results, layout.report, document)
    return StudyResults(layout.folder, found, sentences, document)


def measure_all(material: Material) -> list[Found]:
    """What each task and phase gave, in the order of the protocol."""
    made = {(b.task, b.phase): b for b in blocks(material.judgements, material.people)}
    tasks = {task.task: task for task in material.protocol.tasks}
    order = [(task, phase) for task in tasks for phase in ("unaware", "reading")]
    return [MEASURES[key[0]](made[key], tasks[key[0]]) for key in order if key in made]


def _of_all(found: Sequence[Found]) -> list[Sentence]:
    """What is true of the whole: several questions, and what readers cannot say."""
    verdicts = sum(s.status in ("holds", "unproven") for each in found for s in each.sentences)
    parts = sum(not f.place.pooled and f.low is not None for each in found for f in each.figures)
    tasks = len(found)
    said: list[Sentence] = []
    text = (
        f"{tasks} {'task was' if tasks == 1 else 'tasks were'} asked and {verdicts} "
        f"{'verdict is' if verdicts == 1 else 'verdicts are'} given, each at 5 % by itself"
    )
    if verdicts > 1:
        text += ", without correction for their number: the more there are, the likelier one is by chance"
    if parts:
        text += (
            f". The {parts} intervals by reader, set, label, specialty and years describe and test "
            "nothing: about one in twenty misses what it is of"
        )
    said.append(Sentence("note", text + "."))
    said.append(Sentence("note", DIVERSITY))
    return said


def as_document(
    material: Material, found: Sequence[Found], sentences: Sequence[Sentence], command: str
) -> dict[str, Any]:
    """results.json: every figure is a row with its place."""
    return {
        "format": FORMAT,
        "vesalius": __version__,
        "command": command,
        "study": material.study,
        "locked": material.locked,
        "what": _what(material.protocol) | material.what,
        "readers": [asdict(person) | {"band": person.band} for person in material.people],
        "sentences": [
            *(asdict(s) | {"phase": ""} for s in sentences),
            *(asdict(s) | {"phase": each.phase} for each in found for s in each.sentences),
        ],
        "figures": [figure.as_dict() for each in found for figure in each.figures],
        "tables": [
            asdict(table) | {"phase": each.phase, "rows": [list(row) for row in table.rows]}
            for each in found
            for table in each.tables
        ],
    }


def _what(protocol: Protocol) -> dict[str, Any]:
    return {
        "title": protocol.title,
        "question": protocol.question,
        "seed": protocol.seed,
        "unaware_first": protocol.unaware_first,
        "tasks": [task.model_dump(mode="json") for task in protocol.tasks],
    }


def _write(results: Path, report: Path, document: Mapping[str, Any]) -> None:
    from vesalius.report.study import study_page

    page = study_page(document)
    with (
        clear_write_errors(results.parent, _NEEDED_BYTES),
        atomic_path(results) as of_results,
        atomic_path(report) as of_report,
    ):
        write_document(of_results, document)
        write_page(of_report, page)
