"""Templates and static files. Every address in a page is relative, so that it works below a sub-path."""

from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from vesalius.web.tokens import csrf_token

HERE = Path(__file__).parent


class Pages:
    """The pages of one server: templates of its own `folder`, on top of those that all share."""

    def __init__(self, folder: Path, title: str) -> None:
        self.title = title
        self._environment = jinja2.Environment(
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
            loader=jinja2.FileSystemLoader([folder, HERE / "templates"]),
        )

    def render(
        self, request: Request, name: str, *, status: int = 200, session: str = "", **content: Any
    ) -> HTMLResponse:
        """The page of the template `NAME.html.j2`. `session` is the cookie's secret, if there is one."""
        template = self._environment.get_template(f"{name}.html.j2")
        shared = {
            "up": up(request),
            "site": self.title,
            "csrf": csrf_token(session) if session else "",
        }
        return HTMLResponse(template.render(shared | content), status_code=status)

    def message(
        self, request: Request, title: str, text: str, *, status: int = 200, **content: Any
    ) -> HTMLResponse:
        """A page with one thing to say; `link` and `label`, if given, say where to go from there."""
        return self.render(
            request,
            "message",
            status=status,
            heading=title,
            text=text,
            **{"link": "", "label": "", "refresh": False} | content,
        )

    def arrive(self, request: Request, target: str) -> Response:
        """Send a browser on to `target` (relative), to a page that needs the cookie just given.

        A browser that came from another site, such as a mail page, would not send a strict cookie
        along with a redirect. It does so from a page of ours.
        """
        if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return RedirectResponse(target, status_code=303)
        text = "One moment, please."
        return self.message(request, "Opening", text, link=target, label="Go on", refresh=True)


def up(request: Request) -> str:
    """The way from a page to the first one, such as `../`."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return "../" * (path.count("/") - 1)


class Static(StaticFiles):
    """Files that a browser may keep, and asks about each time, so that an update is seen at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file with our cache header."""
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response


def shared_static() -> Static:
    """Style, theme and viewer, to be mounted at `/static`."""
    return Static(directory=HERE / "static")
