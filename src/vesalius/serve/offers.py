"""`/api/v1`: what can be chosen and looked at: models, adapters, samplers, sets, evidence, health."""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from vesalius._version import __version__
from vesalius.images.encode import encode_image
from vesalius.sample.samplers import NAMES
from vesalius.serve.answers import (
    AdapterAnswer,
    Adapters,
    Evidence,
    EvidenceAnswer,
    Health,
    KindAnswer,
    ModelAnswer,
    Models,
    Samplers,
    SetAnswer,
    SetImage,
    SetPage,
    Sets,
)
from vesalius.serve.api import REFUSALS, Asker, Id, Parts
from vesalius.serve.catalogue import words_of
from vesalius.serve.service import Refused
from vesalius.serve.shown import Shown

offers = APIRouter(prefix="/api/v1", responses=REFUSALS)
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src {}; sandbox; frame-ancestors 'self'"
)
_PICTURES = re.compile(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]*")
_NOTHING = "data:,"


@offers.get("/models", tags=["offers"])
def models(who: Asker, service: Parts) -> Models:
    """All models, the default first."""
    found = []
    for model in service.catalogue.models.values():
        said = words_of(model.id)
        found.append(
            ModelAnswer(
                id=model.id,
                hash=service.conductor.hashes.get(model.id),
                licence=model.licence,
                width=model.size[0],
                height=model.size[1],
                multiple=model.multiple,
                steps=model.steps,
                guidance=model.guidance,
                sampler=model.sampler,
                bits=model.bits,
                prompts=said.prompts,
                words=said.words,
                kinds=[KindAnswer(**vars(kind)) for kind in said.kinds],
            )
        )
    return Models(models=found)


@offers.get("/adapters", tags=["offers"])
def adapters(who: Asker, service: Parts) -> Adapters:
    """All adapters."""
    return Adapters(adapters=[AdapterAnswer(id=id) for id in service.catalogue.adapters])


@offers.get("/samplers", tags=["offers"])
def samplers(who: Asker) -> Samplers:
    """All samplers."""
    return Samplers(samplers=list(NAMES))


@offers.get("/health", tags=["server"])
def health(who: Asker, service: Parts) -> Health:
    """Whether jobs are being drawn."""
    conductor = service.conductor
    return Health(
        status="broken" if conductor.problem else conductor.status,
        problem=conductor.problem,
        version=__version__,
        queued=len(service.database.waiting()),
        largest=service.catalogue.largest,
    )


def _shown(service: Parts, id: str) -> Shown:
    found = service.shown.get(id)
    if found is None:
        raise Refused(404, "there is no such set or report")
    return found


@offers.get("/sets", tags=["evidence"])
def sets(who: Asker, service: Parts) -> Sets:
    """The synthetic sets that are shown."""
    found = [one for one in service.shown.values() if one.is_set]
    return Sets(
        sets=[SetAnswer(id=s.id, name=s.name, images=len(s.rows()), model=s.model) for s in found]
    )


@offers.get("/sets/{id}/images", tags=["evidence"])
def set_images(
    id: Id,
    who: Asker,
    service: Parts,
    first: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
) -> SetPage:
    """Images of a set in its order."""
    rows = _shown(service, id).rows()
    page = [
        SetImage(number=number, prompt=str(row.get("prompt", "")), label=str(row.get("label", "")))
        for number, row in enumerate(rows[first : first + limit], first)
    ]
    return SetPage(images=page, total=len(rows))


@offers.get(
    "/sets/{id}/images/{number}",
    tags=["evidence"],
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The image"}},
)
def set_image(
    id: Id, number: Annotated[int, Path(ge=0, le=2**31)], who: Asker, service: Parts
) -> Response:
    """An image of a set as PNG."""
    pixels, provenance = _shown(service, id).image(number)
    return Response(encode_image(pixels, provenance), media_type="image/png")


@offers.get("/evidence", tags=["evidence"])
def evidence(who: Asker, service: Parts) -> Evidence:
    """The reports that are shown."""
    found = [one for one in service.shown.values() if one.report]
    return Evidence(
        evidence=[EvidenceAnswer(id=one.id, name=one.name, title=one.title) for one in found]
    )


@offers.get(
    "/evidence/{id}/report",
    tags=["evidence"],
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "The page"}},
)
def report(id: Id, who: Asker, service: Parts) -> Response:
    """A report, to be shown in a frame: it runs no scripts. Real images only where the server shows them."""
    page = _shown(service, id).report
    if page is None:
        raise Refused(404, "there is no report here")
    try:
        text = page.read_text("utf-8", errors="replace")
    except OSError as error:
        raise Refused(404, "this report is gone") from error
    shows = service.settings.show_training
    if not shows:
        text = _PICTURES.sub(_NOTHING, text)
    headers = {"Content-Security-Policy": _REPORT_POLICY.format("data:" if shows else "'none'")}
    return Response(text, media_type="text/html", headers=headers)
