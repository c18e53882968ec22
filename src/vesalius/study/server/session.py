"""Who asks: a reader by the cookie of one browser at a time."""

import hmac
import time
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from starlette.responses import JSONResponse

from vesalius.study.database import Reader
from vesalius.study.server.material import Material
from vesalius.web.pages import Pages, up
from vesalius.web.tokens import SessionCookie, csrf_holds, digest, new_token

NO_SESSION = "Open the link that you were given to begin or to go on."
ELSEWHERE = (
    "This reading was opened in another browser or window. Nothing is lost. To go on here instead, "
    "open your link again."
)


class NotSeated(Exception):
    """The request is of no reader, or of one who reads in another browser now."""

    def __init__(self, *, elsewhere: bool) -> None:
        super().__init__(ELSEWHERE if elsewhere else NO_SESSION)
        self.elsewhere = elsewhere


@dataclass(frozen=True)
class Seats:
    """The one browser of each reader."""

    material: Material
    pages: Pages

    @property
    def cookie(self) -> SessionCookie:
        """Named after the study, so that two servers of one machine keep theirs apart."""
        return SessionCookie(f"reading-{self.material.study_id}")

    def reader(self, request: Request) -> Reader:
        """Who asks. Raises NotSeated."""
        secret = self.cookie.read(request)
        found = self.material.database.reader(session_hash=digest(secret)) if secret else None
        if found is None:
            raise NotSeated(elsewhere=bool(secret))
        return found

    def changing(self, request: Request) -> Reader:
        """Who asks for a change, by a page of theirs. Raises NotSeated."""
        reader = self.reader(request)
        if not csrf_holds(request, self.cookie.read(request)):
            raise NotSeated(elsewhere=True)
        return reader

    def open_link(self, request: Request, token: str) -> Response:
        """Ask whether to read in the browser that brings a link, unless it has the seat already.

        Only a click seats it: mail scanners and previews follow links too.
        """
        reader = self.material.database.reader(token_hash=digest(token))
        if reader is None:
            text = "Ask whoever sent it to you for a new one."
            return self.pages.message(request, "This link does not work", text, status=404)
        secret = self.cookie.read(request)
        mine = digest(secret) if secret else ""
        if reader.session_hash and hmac.compare_digest(reader.session_hash, mine):
            return self.pages.arrive(request, up(request))
        return self.pages.render(request, "link", token=token, taken=bool(reader.session_hash))

    def take_over(self, request: Request, token: str) -> Response:
        """Give the seat to the browser that brings the link and asks for it."""
        reader = self.material.database.reader(token_hash=digest(token))
        if reader is None:
            raise NotSeated(elsewhere=False)
        if reader.session_hash is not None:
            self.material.database.add_event(reader.id, "takeover")
        return self._seat(request, reader, JSONResponse({"next": "../"}))

    def _seat(self, request: Request, reader: Reader, response: Response) -> Response:
        secret = new_token()
        changes: dict[str, Any] = {"session_hash": digest(secret)}
        if reader.started_at is None:
            changes["started_at"] = time.time()
        self.material.database.update_reader(reader.id, **changes)
        self.cookie.give(request, response, secret)
        return response
