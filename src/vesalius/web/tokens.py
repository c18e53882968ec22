"""Secrets of links and sessions: 256 random bits, kept as hashes, compared in constant time."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response


def new_token() -> str:
    """A secret for an address, a cookie or a header."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a token. It needs no salt: nobody can guess 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_token(session: str) -> str:
    """The token that a page of this session sends with each change, in the header X-CSRF-Token."""
    return hmac.new(session.encode(), b"csrf", "sha256").hexdigest()


def csrf_holds(request: Request, session: str) -> bool:
    """Whether a change was asked for by a page of this session."""
    sent = request.headers.get("x-csrf-token", "")
    return hmac.compare_digest(sent.encode(), csrf_token(session).encode())


@dataclass(frozen=True)
class SessionCookie:
    """A cookie that scripts cannot read and other sites cannot have sent.

    `name` differs between servers of one machine: browsers share cookies between ports.
    """

    name: str
    seconds: int = 90 * 24 * 3600

    def read(self, request: Request) -> str:
        """The session's secret, or nothing."""
        return request.cookies.get(self.name, "")

    def give(self, request: Request, response: Response, secret: str) -> None:
        """Let the browser that asked keep `secret`."""
        response.set_cookie(
            self.name,
            secret,
            max_age=self.seconds,
            path=request.scope.get("root_path") or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
