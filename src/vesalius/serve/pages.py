"""The pages of this server: frames, which the scripts in `static/` fill from `/api/v1`."""

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from vesalius.sample.checks import MOST_FEATHER
from vesalius.sample.samplers import NAMES
from vesalius.serve.settings import MOST_IMAGES, MOST_STEPS
from vesalius.web.pages import Pages, Static

HERE = Path(__file__).parent
VIEWS = {
    "generate": "Generate",
    "library": "Library",
    "steer": "Steer",
    "compare": "Compare",
    "jobs": "Jobs",
    "evidence": "Sets and evidence",
}  # the name of each template and script, and what people read; the first is at `./`

pages = Pages(HERE / "templates", "Vesalius")
site = APIRouter(include_in_schema=False)


def _route(name: str) -> Callable[[Request], Response]:
    def show(request: Request) -> Response:
        access, service = request.app.state.access, request.app.state.service
        who = access.who(request)
        if who is None:
            return pages.render(request, "signin", status=401)
        return pages.render(
            request,
            name,
            session=access.cookie.read(request),
            view=name,
            views=VIEWS,
            user=who.user,
            models=list(service.catalogue.models.values()),
            adapters=list(service.catalogue.adapters),
            samplers=list(NAMES),
            most_images=MOST_IMAGES,
            most_steps=MOST_STEPS,
            most_feather=MOST_FEATHER,
        )

    return show


for _name in VIEWS:
    _path = "/" if _name == "generate" else f"/{_name}"
    site.add_api_route(_path, _route(_name), name=f"page-{_name}")


def add_pages(app: FastAPI) -> None:
    """Pages at the top, their scripts and style at `/app`."""
    app.include_router(site)
    app.mount("/app", Static(directory=HERE / "static"))
