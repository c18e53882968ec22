"""How one gets in, and what there is to ask for."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from vesalius.serve.access import Access
from vesalius.serve.answers import Me
from vesalius.serve.api import REFUSALS, Asker
from vesalius.serve.bodies import Strict
from vesalius.serve.pages import pages
from vesalius.serve.service import Refused
from vesalius.web.tokens import csrf_token

entry = APIRouter()
LONGEST_TOKEN = 200


class Key(Strict):
    """What a browser without a cookie sends: a user's key, or the token of an address."""

    key: str


def _access(request: Request) -> Access:
    return request.app.state.access


@entry.get("/enter", include_in_schema=False)
def enter(
    request: Request, token: Annotated[str, Query(max_length=LONGEST_TOKEN)] = ""
) -> Response:
    """The address that `vesalius serve` prints: its token becomes a cookie, once."""
    access = _access(request)
    secret = access.enter(token)
    if secret is None:
        if access.who(request):
            return pages.arrive(request, "./")
        text = (
            "Each address works once, and this one is used up or wrong. Sign in with the key of your "
            "user, or start `vesalius serve` again for a new address."
        )
        title = "This address does not work"
        return pages.message(request, title, text, status=403, link="./", label="Sign in")
    response = pages.arrive(request, "./")
    access.cookie.give(request, response, secret)
    return response


@entry.post("/api/v1/session", tags=["server"], responses=REFUSALS)
def begin_session(request: Request, response: Response, key: Key) -> Me:
    """A cookie for a key: what the page's sign-in sends."""
    access = _access(request)
    secret = access.enter(key.key[:LONGEST_TOKEN], keys=True)
    user = access.user_of_session(secret) if secret else None
    if secret is None or user is None:
        raise Refused(403, "this key is not known here")
    access.cookie.give(request, response, secret)
    return Me(user=user, csrf=csrf_token(secret))


@entry.delete("/api/v1/session", status_code=204, tags=["server"], responses=REFUSALS)
def end_session(request: Request, response: Response, who: Asker) -> None:
    """Sign out: the cookie is worth nothing any more."""
    access = _access(request)
    access.leave(request)
    response.delete_cookie(access.cookie.name, path=request.scope.get("root_path") or "/")


def _schema(request: Request) -> dict[str, Any]:
    app = request.app
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    for operation in (o for methods in schema["paths"].values() for o in methods.values()):
        for status, answer in operation["responses"].items():
            if status >= "400":  # JSON, whatever else an operation answers
                answer["content"] = {"application/json": next(iter(answer["content"].values()))}
    return schema


@entry.get("/api/v1/openapi.json", include_in_schema=False)
def openapi(request: Request, who: Asker) -> dict[str, Any]:
    """The schema of all this, for programs."""
    return _schema(request)


@entry.get("/api", include_in_schema=False)
def reference(request: Request) -> HTMLResponse:
    """The same as a page, without anything from elsewhere."""
    if _access(request).who(request) is None:
        return pages.render(request, "signin", status=401)
    schema = _schema(request)
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            line = {
                "method": method.upper(),
                "path": path,
                "said": operation.get("description", ""),
            }
            line["takes"] = _names(schema, operation)
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(line)
    return pages.render(request, "reference", groups=groups)


def _names(schema: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """Parameters and fields of the body of an operation."""
    names = [parameter["name"] for parameter in operation.get("parameters", [])]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for kind in content.get("schema", {}).get("oneOf", [content.get("schema", {})]):
        if "$ref" in kind:
            title = kind["$ref"].rpartition("/")[2]
            fields = schema["components"]["schemas"][title].get("properties", {})
            names.append(f"{title}({', '.join(fields)})")
    return names
