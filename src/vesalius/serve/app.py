"""The application: routes, and refusals in one line."""

import errno
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vesalius._version import __version__
from vesalius.errors import VesaliusError
from vesalius.serve.access import Access, Door
from vesalius.serve.api import api
from vesalius.serve.entry import entry
from vesalius.serve.files import Gone
from vesalius.serve.offers import offers
from vesalius.serve.openai_images import openai
from vesalius.serve.pages import add_pages
from vesalius.serve.service import Refused, Service
from vesalius.serve.webui import webui
from vesalius.web.pages import shared_static
from vesalius.web.store import DiskFull

_RETRY_SECONDS = "5"


def make_app(service: Service, access: Access) -> FastAPI:
    """The whole server but for the guard that it stands behind."""
    app = FastAPI(
        title="vesalius serve",
        version=__version__,
        summary="Synthetic medical images, for research only.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # for those who are known: `entry`
    )
    app.state.service, app.state.access = service, access
    for router in (api, offers, entry, webui, openai):
        app.include_router(router)
    add_pages(app)
    app.add_middleware(Door, access=access)
    app.mount("/static", shared_static())
    app.add_exception_handler(VesaliusError, _refused)
    app.add_exception_handler(OSError, _no_room)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fallen)
    return app


def _answer(request: Request, status: int, text: str, headers: Any = None) -> JSONResponse:
    """One line, in the form that the face expects which was asked."""
    text = " ".join(text.split())
    content: dict[str, Any] = {"detail": text}
    if request.url.path.removeprefix(request.scope.get("root_path", "")).startswith("/v1/"):
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        content["error"] = {"message": text, "type": kind, "param": None, "code": None}
    headers = dict(headers or {})
    if status == 429:
        headers["Retry-After"] = _RETRY_SECONDS
    return JSONResponse(content, status, headers)


def _refused(request: Request, error: Exception) -> JSONResponse:
    status = 422
    if isinstance(error, Refused):
        status = error.status
    elif isinstance(error, Gone):
        status = 404
    elif isinstance(error, DiskFull):
        status = 507
    service: Service = request.app.state.service
    return _answer(request, status, service.without_folders(str(error)))


def _no_room(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return _answer(request, 507, "the disk is full: nothing was lost, free some room")


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(request, error.status_code, str(error.detail), error.headers)


def _fallen(request: Request, error: Exception) -> JSONResponse:
    return _answer(request, 500, "an error of this server, which its terminal shows")


def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _answer(request, 422, f"{place}: {first['msg'].removeprefix('Value error, ')}"[:500])
