"""What the API answers: its schema, and from rows to it."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from vesalius.serve.database import Made


class Refusal(BaseModel):
    """Why a request was not served, in one line."""

    detail: str


class Picture(BaseModel):
    """An image of a job."""

    number: int
    id: str


class JobAnswer(BaseModel):
    """A job as it stands."""

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    owner: str
    prompt: str = Field(description="What it draws, in one line.")
    settings: dict[str, Any] = Field(
        description="The body that was asked for, its seed drawn. The data of an uploaded image is "
        "not kept; that of a mask is, in black and white."
    )
    total: int = Field(description="Images to draw.")
    done: float = Field(description="Images drawn, parts of one included.")
    step: int
    steps: int
    place: int | None = Field(description="In the queue; 0 is being drawn, null is over.")
    eta_seconds: float | None = Field(description="Until it is done, where one can tell.")
    images: list[Picture]
    warnings: list[str]
    error: str
    created: str
    started: str | None
    ended: str | None


class Jobs(BaseModel):
    """The queue, and the latest jobs that ended."""

    jobs: list[JobAnswer]


class ImageAnswer(BaseModel):
    """An image of the library."""

    id: str
    job: str
    number: int
    owner: str
    title: str = Field(description="What it is called: its prompt, or the place of a frame.")
    prompt: str = Field(description="What the model read.")
    label: str
    model: str
    adapters: str
    seed: int
    width: int
    height: int
    bits: int
    sha256: str
    created: str
    settings: dict[str, Any] = Field(description="A body for `POST jobs` that draws it again.")


class Images(BaseModel):
    """A page of the library, the newest first; `next` is the `before` of the page after it."""

    images: list[ImageAnswer]
    next: int | None
    total: int = Field(description="Images in the whole library.")


class Label(BaseModel):
    """A label of the library."""

    label: str
    images: int


class Labels(BaseModel):
    """All labels of the library."""

    labels: list[Label]


class KindAnswer(BaseModel):
    """How prompts for one kind of image are made, as the model's captions were."""

    kind: str = Field(description="What the first phrasing begins with.")
    templates: list[str] = Field(
        description="`{column}` stands for a word; a clause in brackets is left out without it."
    )
    words: dict[str, list[str]] = Field(
        description="By column; where none are listed, any number can be said."
    )


class ModelAnswer(BaseModel):
    """A model that can be chosen."""

    id: str
    hash: str | None = Field(description="Known once it was loaded.")
    licence: str
    width: int
    height: int
    multiple: int = Field(description="Sides must be multiples of it, in pixels.")
    steps: int
    guidance: float
    sampler: str
    bits: int
    prompts: list[str] = Field(description="Prompts to begin with.")
    words: dict[str, list[str]] = Field(description="What prompts are made of, by column.")
    kinds: list[KindAnswer]


class Models(BaseModel):
    """All models, the default first."""

    models: list[ModelAnswer]


class AdapterAnswer(BaseModel):
    """An adapter that can be chosen."""

    id: str


class Adapters(BaseModel):
    """All adapters."""

    adapters: list[AdapterAnswer]


class Samplers(BaseModel):
    """Names of samplers; a job that names none gets the model's own."""

    samplers: list[str]


class SetAnswer(BaseModel):
    """A synthetic set that is shown."""

    id: str
    name: str
    images: int
    model: str


class Sets(BaseModel):
    """All sets."""

    sets: list[SetAnswer]


class SetImage(BaseModel):
    """An image of a set."""

    number: int
    prompt: str
    label: str


class SetPage(BaseModel):
    """Some images of a set."""

    images: list[SetImage]
    total: int


class EvidenceAnswer(BaseModel):
    """A report that is shown."""

    id: str
    name: str
    title: str


class Evidence(BaseModel):
    """All reports."""

    evidence: list[EvidenceAnswer]


class Health(BaseModel):
    """Whether jobs are being drawn."""

    status: Literal["loading", "ready", "drawing", "broken", "stopped"]
    problem: str
    version: str
    queued: int
    largest: int = Field(description="Pixels of one image at most.")


class Me(BaseModel):
    """Who is asking."""

    user: str
    csrf: str = Field(description="For the X-CSRF-Token header of requests by cookie.")


def moment(seconds: float | None) -> str | None:
    """A time of the database as ISO 8601 in UTC."""
    return None if seconds is None else _iso(seconds)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _title(made: Made) -> str:
    body = made.body
    if body["kind"] != "interpolate":
        return made.prompt
    return f"{body['first']} / {body['second']}, frame {made.number + 1} of {body['frames']}"


def image_answer(made: Made) -> ImageAnswer:
    """A row of the library."""
    facts = made.provenance
    return ImageAnswer(
        id=made.id,
        job=made.job,
        number=made.number,
        owner=made.owner,
        title=_title(made),
        prompt=made.prompt,
        label=made.label,
        model=made.model,
        adapters=facts["adapters"],
        seed=made.seed,
        width=facts["width"],
        height=facts["height"],
        bits=facts.get("bits", 8),
        sha256=made.sha256,
        created=_iso(made.created),
        settings=made.body,
    )
