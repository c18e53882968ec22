"""An answer arrives: once, in order, with times that make sense."""

import time
import uuid
from typing import Any

from fastapi import HTTPException

from vesalius.study.database import WITHDRAWN, Answer, Closed, Given, Reader, Trial
from vesalius.study.server import told
from vesalius.study.server.bodies import AnswerBody, given
from vesalius.study.server.material import Material
from vesalius.study.server.standing import Standing, standing
from vesalius.study.server.times import Durations, settle


def answer(material: Material, reader: Reader, body: AnswerBody) -> tuple[int, dict[str, Any]]:
    """Status and content of the response: what is next, and in training the right answer.

    409 where another window has answered, or the answer is to another trial than the next one: then
    nothing is stored, and the page goes on with what the response says.
    """
    trial = material.by_token.get(body.trial)
    if trial is None or trial.reader != reader.id:
        raise HTTPException(404)
    received_at = time.time()
    times = settle(received_at, Durations(body.elapsed_ms, body.visible_ms, body.waited_ms))
    before = standing(material, reader)
    row = given(body, material, trial, times)
    try:
        stored, is_new = _record(material, before, trial, row, received_at)
    except Closed:
        return 409, {"state": told.state(material, before)}
    if is_new:
        flaws = (*times.flaws, *_backwards(before, received_at)) if body.value else ()
        if flaws:
            details = f"answer {stored.id}: {'; '.join(flaws)}"
            material.database.add_event(reader.id, "clock", details)
    now = _settled(material, reader)
    told_now = {"state": told.state(material, now)}
    if said := told.feedback(material, trial, stored.value):
        told_now["feedback"] = said
    return 200, told_now


def _record(
    material: Material, before: Standing, trial: Trial, row: Given, received_at: float
) -> tuple[Answer, bool]:
    """Store a row. Raises Closed where it is not this trial's turn, unless it is stored already."""
    due = before.undoable if row.value == WITHDRAWN else before.next
    if due != trial:
        known = [a for a in material.database.answers(trial.reader) if a.trial == trial.id]
        if row.client_uuid not in {a.client_uuid for a in known}:
            raise Closed("another trial is next")
    return material.database.record_answer(trial, row, received_at=received_at)


def undo_last(material: Material, reader: Reader) -> None:
    """Take the last answer back, from a page without images. Nothing happens where none can be."""
    before = standing(material, reader)
    if before.undoable:
        row = Given(client_uuid=str(uuid.uuid4()), value=WITHDRAWN)
        _record(material, before, before.undoable, row, time.time())
        _settled(material, reader)


def _settled(material: Material, reader: Reader) -> Standing:
    """Where the reader stands now; the end is written down when it is reached, or was left again."""
    now = standing(material, reader)
    ended = now.next is None
    if ended != (reader.finished_at is not None):
        at = time.time() if ended else None
        material.database.update_reader(reader.id, finished_at=at)
        material.database.add_event(reader.id, "finished" if ended else "reopened")
    return now


def _backwards(before: Standing, received_at: float) -> list[str]:
    """This machine's own clock, where it was set back between two answers."""
    if before.last_at and before.last_at > received_at + 1:
        return [f"the server's clock went back {before.last_at - received_at:.0f} s"]
    return []
