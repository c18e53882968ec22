"""The addresses of a reading: a link, one page that is the reader's turn, images, answers."""

import hashlib
import hmac
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from starlette.responses import JSONResponse

from vesalius.errors import VesaliusError
from vesalius.study.database import Reader
from vesalius.study.progress import progress
from vesalius.study.server import answering, told
from vesalius.study.server.bodies import (
    AnswerBody,
    BriefingBody,
    ConsentBody,
    DisplayBody,
    EventBody,
    KeysBody,
    ProfileBody,
)
from vesalius.study.server.material import Material
from vesalius.study.server.session import NotSeated, Seats
from vesalius.study.server.standing import standing
from vesalius.web.pages import Pages, Static, shared_static
from vesalius.web.store import DiskFull

HERE = Path(__file__).parent


def create_app(material: Material, *, overview_secret: str = "") -> FastAPI:
    """The pages of a locked study. `overview_secret` opens the page of everybody's progress."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages = Pages(HERE / "templates", material.protocol.title)
    seats = Seats(material, pages)
    app.mount("/static", shared_static())
    app.mount("/own", Static(directory=HERE / "static"))
    _add_errors(app, pages)
    _add_pages(app, seats, overview_secret)
    _add_forms(app, seats)
    _add_reading(app, seats)
    return app


def _add_errors(app: FastAPI, pages: Pages) -> None:
    """One line for a script, one page for a person."""

    def say(request: Request, status: int, title: str, text: str, reason: str) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return pages.message(request, title, text, status=status)
        return JSONResponse({"detail": text, "reason": reason}, status_code=status)

    @app.exception_handler(NotSeated)
    def not_seated(request: Request, error: NotSeated) -> Response:
        title, reason = ("Open elsewhere", "elsewhere") if error.elsewhere else ("Welcome", "none")
        return say(request, 401, title, str(error), reason)

    @app.exception_handler(DiskFull)
    def disk_full(request: Request, error: DiskFull) -> Response:
        text = (
            "The disk of the study is full. Nothing is lost: please tell whoever invited you, and "
            "leave this page open."
        )
        return say(request, 507, "The disk is full", text, "full")

    @app.exception_handler(VesaliusError)
    def broken(request: Request, error: VesaliusError) -> Response:
        text = "The study cannot be written at the moment. Nothing is lost: try again."
        return say(request, 503, "One moment", text, "busy")

    @app.exception_handler(404)
    def missing(request: Request, error: Exception) -> Response:
        return say(request, 404, "No such page", "There is nothing at this address.", "missing")


def _add_pages(app: FastAPI, seats: Seats, overview_secret: str) -> None:
    material, pages = seats.material, seats.pages

    @app.get("/r/{token}")
    def link(request: Request, token: str) -> Response:
        return seats.open_link(request, token)

    @app.post("/r/{token}/take")
    def take(request: Request, token: str) -> Response:
        return seats.take_over(request, token)

    @app.get("/")
    def turn(request: Request) -> Response:
        reader = seats.reader(request)
        now = standing(material, reader)
        return pages.render(
            request,
            now.page,
            session=seats.cookie.read(request),
            reader=reader,
            protocol=material.protocol,
            study=material.study_id,
            can_undo=now.undoable is not None,
            has_said=any(e.kind == "comment" for e in material.database.events(reader.id)),
        )

    @app.get("/progress/{secret}")
    def overview(request: Request, secret: str) -> Response:
        if not overview_secret or not hmac.compare_digest(
            secret.encode(), overview_secret.encode()
        ):
            raise HTTPException(404)
        return pages.render(request, "progress", progress=progress(material.database))


def _add_forms(app: FastAPI, seats: Seats) -> None:
    database = seats.material.database

    def keep(reader: Reader, kind: str, **said: Any) -> dict[str, str]:
        """Add what a reader says of themselves to their profile."""
        database.update_reader(reader.id, profile={**reader.profile, **said})
        if kind != "keys":
            database.add_event(reader.id, kind)
        return {"next": "./"}

    @app.post("/consent")
    def consent(request: Request, body: ConsentBody) -> dict[str, str]:
        reader = seats.changing(request)
        if reader.consent_hash is None:
            text = seats.material.protocol.consent
            database.update_reader(
                reader.id,
                consent_hash=hashlib.sha256(text.encode()).hexdigest(),
                consented_at=time.time(),
            )
            database.add_event(reader.id, "consent")
        return {"next": "./"}

    @app.post("/profile")
    def profile(request: Request, body: ProfileBody) -> dict[str, str]:
        reader = seats.changing(request)
        if not reader.specialty:
            database.update_reader(reader.id, specialty=body.specialty)
        return keep(reader, "profile", **body.model_dump(exclude_none=True))

    @app.post("/display")
    def display(request: Request, body: DisplayBody) -> dict[str, str]:
        return keep(seats.changing(request), "display", display=body.model_dump())

    @app.post("/briefing")
    def briefing(request: Request, body: BriefingBody) -> dict[str, str]:
        return keep(seats.changing(request), "briefing", **body.model_dump())

    @app.post("/keys")
    def keys(request: Request, body: KeysBody) -> dict[str, str]:
        return keep(seats.changing(request), "keys", keys=body.keys, at_once=body.at_once)

    @app.post("/event")
    def event(request: Request, body: EventBody) -> dict[str, str]:
        database.add_event(seats.changing(request).id, body.kind, body.details)
        return {"next": "./"}


def _add_reading(app: FastAPI, seats: Seats) -> None:
    material = seats.material

    @app.get("/state")
    def state(request: Request) -> dict[str, Any]:
        return told.state(material, standing(material, seats.reader(request)))

    @app.get("/here")
    def here(request: Request) -> dict[str, bool]:
        seats.reader(request)
        return {"here": True}

    @app.get("/image/{token}/{side}")
    def image(request: Request, token: str, side: int) -> Response:
        reader = seats.reader(request)
        trial = material.by_token.get(token)
        if trial is None or trial.reader != reader.id or not 0 <= side < len(trial.items):
            raise HTTPException(404)
        return Response(material.png(trial, side), media_type="image/png")

    @app.post("/answer")
    def answer(request: Request, body: AnswerBody) -> Response:
        reader = seats.changing(request)
        status, content = answering.answer(material, reader, body)
        return JSONResponse(content, status_code=status)

    @app.post("/undo")
    def undo(request: Request) -> dict[str, str]:
        answering.undo_last(material, seats.changing(request))
        return {"next": "./"}
