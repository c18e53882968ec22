"""Who is asking: a browser by its cookie, a program by the key of its user.

A browser gets its cookie for the one-time token of the address that was printed. Keys lie in a file
that only its owner reads, and stay the same from one start to the next.
"""

import base64
import binascii
import hmac
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from vesalius.core.atomic import atomic_path
from vesalius.core.documents import read_json
from vesalius.serve.database import Database
from vesalius.web.guard import SAFE_METHODS, App, Receive, Scope, Send, limited
from vesalius.web.tokens import SessionCookie, csrf_holds, csrf_token, digest, new_token

KEYS = "keys.json"
COOKIE = "vesalius-serve"
SECONDS = 30 * 24 * 3600
MOST_FROM_STRANGERS = 4_000  # bytes of a request: a key fits


@dataclass(frozen=True)
class Who:
    """A user; `csrf` is what his page sends with changes, empty for a program."""

    user: str
    csrf: str = ""


def make_keys(folder: Path, users: Sequence[str]) -> dict[str, str]:
    """The key of each user, those of earlier starts kept, in a file of mode 0600."""
    path = folder / KEYS
    keys = read_json(path) if path.exists() else {}
    if missing := [user for user in users if user not in keys]:
        keys |= {user: new_token() for user in missing}
        with atomic_path(path) as temporary:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(keys, file, indent=1, ensure_ascii=False)
    return {user: str(keys[user]) for user in users}


class Access:
    """The keys, the sessions, and the tokens of addresses that nobody has opened yet."""

    def __init__(self, database: Database, keys: dict[str, str], port: int) -> None:
        self.database = database
        self.users = {digest(key): user for user, key in keys.items()}
        self.cookie = SessionCookie(f"{COOKIE}-{port}", SECONDS)
        self._links: dict[str, str] = {}  # digest of a token to its user

    def link(self, user: str) -> str:
        """A token that opens a session of `user` once."""
        token = new_token()
        self._links[digest(token)] = user
        return token

    def enter(self, token: str, *, keys: bool = False) -> str | None:
        """The secret of a new session for a one-time token, or None.

        With `keys` for a key too, which is never part of an address: browsers remember those.
        """
        user = self._links.pop(digest(token), None)
        if user is None and keys:
            user = self._user_of(token)
        if user is None:
            return None
        secret = new_token()
        self.database.add_session(digest(secret), user, time.time() + SECONDS)
        return secret

    def user_of_session(self, secret: str) -> str | None:
        """Whose session it is."""
        user = self.database.session(digest(secret), time.time())
        return user if user in self.users.values() else None

    def leave(self, request: Request) -> None:
        """End the session of a browser."""
        self.database.end_session(digest(self.cookie.read(request)))

    def who(self, request: Request) -> Who | None:
        """Who is asking; None where nobody is known by what was sent.

        Raises HTTPException for a change that no page of the session asked for.
        """
        if header := request.headers.get("authorization", ""):
            user = self._user_of(_secret(header))
            return Who(user) if user else None
        secret = self.cookie.read(request)
        user = self.user_of_session(secret) if secret else None
        if user is None:
            return None
        if request.method not in SAFE_METHODS and not csrf_holds(request, secret):
            raise HTTPException(403, "the change lacks the token of this session: reload the page")
        return Who(user, csrf_token(secret))

    def knows(self, request: Request) -> bool:
        """Whether anybody is known by what was sent."""
        try:
            return self.who(request) is not None
        except HTTPException:
            return False

    def _user_of(self, key: str) -> str | None:
        hashed = digest(key)
        found = [user for known, user in self.users.items() if hmac.compare_digest(known, hashed)]
        return found[0] if found else None


def _secret(header: str) -> str:
    """The key in an Authorization header: a Bearer token, or the password of Basic."""
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def known(request: Request) -> Who:
    """Who is asking. Raises HTTPException where nobody is known by what was sent."""
    access: Any = request.app.state.access
    who = access.who(request)
    if who is None:
        raise HTTPException(
            401,
            "not signed in: open the address that `vesalius serve` printed, or send a key",
            {"WWW-Authenticate": "Bearer"},
        )
    return who


class Door:
    """An application whose changes those who are not known cannot ask for at any length.

    A body is read and parsed before a route refuses who sent it.
    """

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        changes = scope["type"] == "http" and scope["method"] not in SAFE_METHODS
        if changes and not await run_in_threadpool(self.access.knows, Request(scope)):
            receive = limited(receive, MOST_FROM_STRANGERS)
        await self.app(scope, receive, send)
