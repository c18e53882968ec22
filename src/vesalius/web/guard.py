"""What every request and every response goes through, whatever the page behind it.

Refused: hosts that are not this server's (DNS rebinding), changes that another site asks for (Origin),
bodies that are no JSON (so that no form of another site can send one), and bodies that are too large.
Added: the headers that keep a page to itself.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
HEADERS = {
    b"content-security-policy": CONTENT_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"SAMEORIGIN",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
    b"x-robots-tag": b"noindex",
    b"cache-control": b"no-store",
}


@dataclass(frozen=True)
class Rules:
    """What a `Guard` lets through.

    `hosts` are names without port; `origin` is a proxy's public scheme, host and port; `root_path` is
    the sub-path, whether the proxy takes it off or not. `by_address` lets any IP address stand for a
    name: of a server on all addresses nobody knows which they are, and no other site can have one.
    """

    hosts: frozenset[str]
    origin: str = ""
    root_path: str = ""
    largest_body: int = 100_000  # bytes
    by_address: bool = False


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Guard:
    """The ASGI application `app` behind `rules`."""

    def __init__(self, app: App, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                given = list(message.get("headers", []))
                names = {name.lower() for name, _ in given}
                added = [item for item in HEADERS.items() if item[0] not in names]
                message = {**message, "headers": given + added}
            await send(message)

        try:
            self._check(scope, {name.lower(): value for name, value in scope["headers"]})
            receive = limited(receive, self.rules.largest_body)
            await self.app(self._below(scope), receive, send_with_headers)
        except _Refused as refused:
            if not begun:
                await _answer(send_with_headers, refused.status, str(refused))

    def _below(self, scope: Scope) -> Scope:
        """The scope with its sub-path, which a proxy may have taken off the path."""
        root = self.rules.root_path
        if self.rules.origin.startswith("https://"):  # to the proxy; cookies then are for TLS alone
            scope = {**scope, "scheme": "https"}
        if not root:
            return scope
        path = scope["path"]
        whole = path if path == root or path.startswith(f"{root}/") else root + path
        return {**scope, "root_path": root, "path": whole, "raw_path": whole.encode()}

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = _name(host)
        if name not in self.rules.hosts and not (self.rules.by_address and _is_address(name)):
            raise _Refused(
                421, "this server is not reached by that name (behind a proxy: --address)"
            )
        if scope["method"] in SAFE_METHODS:
            return
        if not self._same_origin(headers, host):
            raise _Refused(403, "the request came from another site (or a proxy: see --address)")
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        length = headers.get(b"content-length", b"0")
        has_body = length != b"0" or b"transfer-encoding" in headers
        if kind != b"application/json" and (kind or has_body):
            raise _Refused(415, "send JSON, with Content-Type: application/json")
        if not length.isdigit() or int(length) > self.rules.largest_body:
            raise _Refused(413, _too_large(self.rules.largest_body))

    def _same_origin(self, headers: dict[bytes, bytes], host: str) -> bool:
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin:
            return origin.partition("://")[2] == host or origin == self.rules.origin != ""
        # programs send neither header; their requests carry no cookie that they were not given
        return headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")


def limited(receive: Receive, largest: int) -> Receive:
    """`receive` of a request whose body may have `largest` bytes; more raise HTTPException."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > largest:
            raise HTTPException(413, _too_large(largest))
        return message

    return bounded


def _too_large(largest: int) -> str:
    return f"the request is larger than {largest:,} bytes"


def _name(host: str) -> str | None:
    """The name in a Host header, without its port; None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # half of an IPv6 address
        return None


def _is_address(name: str | None) -> bool:
    try:
        ip_address(name or "")
    except ValueError:
        return False
    return True


async def _answer(send: Send, status: int, text: str) -> None:
    body = f'{{"detail": "{text}"}}'.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
