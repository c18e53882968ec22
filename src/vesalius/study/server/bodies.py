"""What a browser may send, checked before anything is stored."""

import json
from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from vesalius.study.database import WITHDRAWN, Given, Trial
from vesalius.study.server.material import Material
from vesalius.study.server.times import Times
from vesalius.study.server.told import SURE, WITH_CONFIDENCE, choices, words

Text = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(max_length=60)]
Seldom = Literal["never", "some", "often"]


class Body(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=True)


class ConsentBody(Body):
    """A reader takes part."""

    agreed: Literal[True]


class ProfileBody(Body):
    """What a reader says of themselves."""

    specialty: Annotated[str, Field(min_length=1, max_length=100)]
    years: Annotated[float, Field(ge=0, le=80)]
    reads: Seldom
    seen_before: Seldom | None = None
    interests: Text = ""


class BriefingBody(Body):
    """A reader has been told that synthetic images are among those to come."""

    seen_before: Seldom


class DisplayBody(Body):
    """What a reader sees of the test picture, and says of room and monitor."""

    dark_steps: Annotated[int, Field(ge=0, le=10)]
    bright_steps: Annotated[int, Field(ge=0, le=10)]
    px_per_mm: Annotated[float, Field(gt=0.1, lt=100)] | None = None
    light: Literal["dark", "dim", "office", "bright"]
    monitor: Literal["diagnostic", "office", "laptop", "tablet"]
    model: Annotated[str, Field(max_length=100)] = ""
    width: Annotated[int, Field(ge=0, le=100_000)]
    height: Annotated[int, Field(ge=0, le=100_000)]
    ratio: Annotated[float, Field(ge=0, le=20)]


class EventBody(Body):
    """Something that a page reports."""

    kind: Literal["begin", "break", "comment"]
    details: Text = ""


class KeysBody(Body):
    """Which key does what, and whether a complete answer goes on by itself."""

    keys: Annotated[dict[Name, Name], Field(max_length=60)]
    at_once: bool = True


class Tools(Body):
    """What was done with the viewer, in gestures."""

    zoomed: Annotated[int, Field(ge=0, le=100_000)] = 0
    panned: Annotated[int, Field(ge=0, le=100_000)] = 0
    windowed: Annotated[int, Field(ge=0, le=100_000)] = 0
    reset: Annotated[int, Field(ge=0, le=100_000)] = 0
    zoom: Annotated[float, Field(ge=0, le=100)] = 1
    hidden: Annotated[int, Field(ge=0, le=100_000)] = 0
    input: Literal["key", "pointer"] = "pointer"


class AnswerBody(Body):
    """An answer, or with an empty value its withdrawal."""

    client_uuid: Annotated[str, Field(pattern=r"^[0-9a-f-]{32,36}$")]
    trial: Annotated[str, Field(max_length=100)]
    value: Annotated[str, Field(max_length=200)]
    confidence: int | None = None
    wrong_words: Annotated[list[int], Field(max_length=1000)] = Field(default_factory=list)
    elapsed_ms: float | None = None
    visible_ms: float | None = None
    waited_ms: float | None = None
    tools: Tools = Tools()


def given(body: AnswerBody, material: Material, trial: Trial, times: Times) -> Given:
    """The row of an answer. Raises HTTPException for a value that was not offered."""
    is_answer = body.value != WITHDRAWN
    task = material.protocol.task(trial.task)
    needs_confidence = is_answer and trial.task in WITH_CONFIDENCE
    number = len(words(material, trial)) if is_answer and trial.task == "alignment" else 0
    if (
        (is_answer and body.value not in {choice.value for choice in choices(task)})
        or (body.confidence in {value for value, _ in SURE}) != needs_confidence
        or (body.confidence is not None) != needs_confidence
        or any(not 0 <= k < number for k in body.wrong_words)
    ):
        raise HTTPException(422, "this answer was not offered")
    return Given(
        client_uuid=body.client_uuid,
        value=body.value,
        confidence=body.confidence,
        details=json.dumps(sorted(set(body.wrong_words))) if number else "",
        shown_at=times.shown_at,
        submitted_at=times.submitted_at,
        visible_ms=times.visible_ms,
        tools=body.tools.model_dump() | {"waited_ms": times.waited_ms},
    )
