"""`/api/v1`: jobs, their events, and the library."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from vesalius.serve.access import Who, known
from vesalius.serve.answers import (
    ImageAnswer,
    Images,
    JobAnswer,
    Jobs,
    Label,
    Labels,
    Me,
    Refusal,
    image_answer,
)
from vesalius.serve.bodies import IMAGE_ID, LONGEST_LABEL, Body
from vesalius.serve.database import ENDED, Job, Search
from vesalius.serve.files import FORMATS, Encoding, archive, encoded
from vesalius.serve.service import Service

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": said}
    for status, said in {
        400: "Not understood",
        401: "Nobody is known by what was sent",
        403: "Not yours, or not from a page of this server",
        404: "Not there",
        409: "Not now",
        413: "Too large",
        415: "Not JSON",
        421: "Not the name of this server",
        422: "Not what can be drawn",
        429: "The queue is full",
        507: "The disk is full",
    }.items()
}
LONGEST_SEARCH = 500  # characters: SQLite takes an expression of so many words
Id = Annotated[str, Path(pattern=IMAGE_ID)]
Asker = Annotated[Who, Depends(known)]


def service_of(request: Request) -> Service:
    """The parts of the server that a request has come to."""
    return request.app.state.service


Parts = Annotated[Service, Depends(service_of)]
api = APIRouter(prefix="/api/v1", responses=REFUSALS)


class SearchQuery(BaseModel):
    """Which images are wanted; what is empty leaves all."""

    words: str = Field("", max_length=LONGEST_SEARCH)
    label: str = Field("", max_length=LONGEST_LABEL)
    model: str = Field("", max_length=200)
    job: str = Field("", pattern=f"^$|{IMAGE_ID}")
    owner: str = Field("", max_length=40)
    before: int | None = Field(None, ge=0, le=2**53)
    limit: int = Field(60, ge=1, le=200)


@api.get("/session", tags=["server"])
def session(who: Asker) -> Me:
    """Who is asking, and what a page sends with changes."""
    return Me(user=who.user, csrf=who.csrf)


@api.post("/jobs", status_code=202, tags=["jobs"])
def submit(
    body: Body,
    who: Asker,
    service: Parts,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200, min_length=1)] = None,
) -> JobAnswer:
    """Put a job into the queue. Sent again with the same Idempotency-Key it stays one job."""
    job = service.submit(who.user, body, idempotency_key)
    response.headers["Location"] = f"jobs/{job.id}"
    return service.answers([job])[0]


@api.get("/jobs", tags=["jobs"])
def jobs(who: Asker, service: Parts, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Jobs:
    """The queue in its order, then the jobs that ended, the latest first."""
    over = service.database.jobs(ENDED, limit)
    return Jobs(jobs=service.answers([*service.database.waiting(), *over]))


@api.get("/jobs/{id}", tags=["jobs"])
def job(id: Id, who: Asker, service: Parts) -> JobAnswer:
    """A job as it stands."""
    return service.answers([service.job(id)])[0]


@api.delete("/jobs/{id}", tags=["jobs"])
def cancel(id: Id, who: Asker, service: Parts) -> JobAnswer:
    """Cancel a job of your own; its finished images stay."""
    return service.answers([service.cancel(who.user, id)])[0]


def job_of(id: Id, who: Asker, service: Parts) -> Job:
    """The job of an address: refused before an answer begins."""
    return service.job(id)


@api.get("/jobs/{id}/events", response_class=EventSourceResponse, tags=["jobs"])
async def events(
    job: Annotated[Job, Depends(job_of)],
    service: Parts,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """`job` (as `GET jobs/{id}`), `step` (with previews) and `image` events until the job is over.

    The first is how the job stands. With Last-Event-ID those follow that were missed.
    """
    answer = service.answers([job])[0]
    yield ServerSentEvent(event="job", data=answer)
    if answer.state in ENDED:
        return
    seen = service.events.place(last_event_id)
    async for event in service.events.follow(job.id, seen):
        if event is None:
            yield ServerSentEvent(comment="here")
            if service.job(job.id).is_over:
                return
        else:
            yield ServerSentEvent(event=event.name, data=event.data, id=event.id)


@api.get("/images", tags=["library"])
def images(
    who: Asker,
    service: Parts,
    wanted: Annotated[SearchQuery, Query()],
) -> Images:
    """The library, the newest first: images whose prompt or label has all the words."""
    found = service.database.search(Search(**wanted.model_dump()))
    following = found[-1].seq if len(found) == wanted.limit else None
    return Images(
        images=[image_answer(made) for made in found],
        next=following,
        total=service.database.count_images(),
    )


@api.get("/labels", tags=["library"])
def labels(who: Asker, service: Parts) -> Labels:
    """All labels of the library, with how many images have each."""
    found = service.database.labels()
    return Labels(labels=[Label(label=label, images=count) for label, count in found.items()])


_FILES = {type: {} for type in sorted({kind.media_type for kind in FORMATS.values()})}


@api.get(
    "/images/{id}",
    tags=["library"],
    response_class=Response,
    responses={
        200: {"content": _FILES, "description": "The image"},
        304: {"description": "As before"},
    },
)
def image(
    id: Id, who: Asker, service: Parts, request: Request, format: Encoding = "png"
) -> Response:
    """An image with its provenance inside. `raw` is its grey values, uint16, row by row; `thumbnail` a small PNG."""
    made = service.made(id)
    kind = FORMATS[format]
    headers = {
        "ETag": f'"{made.sha256}-{format}"',
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="vesalius-{made.id}{kind.suffix}"',
        "X-Image-Size": f"{made.provenance['width']}x{made.provenance['height']}",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    content = encoded(made, service.library.image(made.id), format)
    return Response(content, media_type=kind.media_type, headers=headers)


@api.get("/images/{id}/about", tags=["library"])
def about(id: Id, who: Asker, service: Parts) -> ImageAnswer:
    """An image's row of the library."""
    return image_answer(service.made(id))


@api.get("/images/{id}/provenance", tags=["library"])
def provenance(id: Id, who: Asker, service: Parts) -> dict[str, Any]:
    """What the image's file says inside of its making, and the file's SHA-256."""
    made = service.made(id)
    return {**made.provenance, "sha256": made.sha256}


@api.delete("/images/{id}", status_code=204, tags=["library"])
def delete(id: Id, who: Asker, service: Parts) -> None:
    """Delete an image of your own, for good."""
    service.delete(who.user, id)


@api.get(
    "/archive",
    tags=["library"],
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "A ZIP file"}},
)
def download(
    who: Asker,
    service: Parts,
    id: Annotated[
        list[Annotated[str, Field(pattern=IMAGE_ID)]], Query(min_length=1, max_length=64)
    ],
    format: Literal["png", "jpeg", "dicom"] = "png",
) -> Response:
    """Images with `manifest.jsonl` and `contact-sheet.png`."""
    found = [service.made(one) for one in dict.fromkeys(id)]
    content = archive(found, service.library, format)
    headers = {"Content-Disposition": 'attachment; filename="vesalius-images.zip"'}
    return Response(content, media_type="application/zip", headers=headers)
