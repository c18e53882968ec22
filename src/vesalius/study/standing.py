"""What must be known before a figure is believed: who has not ended, what was overridden or left out."""

from collections.abc import Iterator

from vesalius.study.joining import Material
from vesalius.study.results import Sentence

FEW = 3  # readers: of fewer nothing follows for others


def remarks(material: Material) -> list[Sentence]:
    """Warnings first, then what only has to be said."""
    found = [*_warnings(material), *_notes(material)]
    return sorted(found, key=lambda each: each.status != "warning")


def _warnings(material: Material) -> Iterator[Sentence]:
    if material.unfinished:
        names = ", ".join(material.unfinished[:8])
        yield Sentence(
            "warning",
            f"An interim look: {len(material.unfinished)} of {len(material.people)} readers have not "
            f"ended ({names}). Who looks before the end and then decides to go on will find something "
            "by chance more often than 5 %; that it was looked at is in the study's log.",
        )
    for person in material.people:
        if person.finished_at is not None and person.answered < person.trials:
            lost = person.trials - person.answered
            yield Sentence("warning", f"{person.reader} ended with {lost} of {person.trials} trials unanswered.")  # fmt: skip
    despite = material.lock["despite"]
    if despite["reasons"]:
        yield Sentence(
            "warning",
            "The study was locked although a machine can tell the arms apart by what is not the picture "
            f"({'; '.join(despite['reasons'])}): readers' success may rest on that, too. Reason given: "
            f"{despite['reason']}.",
        )
    if (count := len([p for p in material.people if p.answered])) and count < FEW:
        who = "One reader: what is found holds for this reader only" if count == 1 else "Two readers: what is found holds for these readers only"  # fmt: skip
        yield Sentence("warning", f"{who}. Three or more are needed to say anything of others.")


def _notes(material: Material) -> Iterator[Sentence]:
    left_out = [
        f"{arm}: {', '.join(f'{why} {count:,}' for why, count in reasons.items())}"
        for arm, reasons in material.lock["excluded"].items()
        if reasons
    ]
    if left_out:
        yield Sentence("note", f"Images left out before the draw. {'; '.join(left_out)}.")
    for warning in material.build.get("warnings", []):
        yield Sentence("note", f"Said when the study was built: {warning}")
    undone = sum(not each.counts for each in material.judgements)
    if undone:
        yield Sentence("note", f"{undone} answers were taken back by their readers and given again; the last counts.")  # fmt: skip
