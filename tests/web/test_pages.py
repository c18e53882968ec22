"""Tokens, cookies, and the way of a browser from a link to a page."""

from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from starlette.testclient import TestClient

from vesalius.web.pages import Pages, shared_static, up
from vesalius.web.tokens import SessionCookie, csrf_holds, csrf_token, digest, new_token

COOKIE = SessionCookie("seat")


@pytest.fixture
def client(tmp_path: Path):
    (tmp_path / "first.html.j2").write_text(
        '{% extends "base.html.j2" %}{% block main %}{{ word }}{% endblock %}'
    )
    pages = Pages(tmp_path, "A study")
    app = FastAPI(docs_url=None, openapi_url=None)
    app.mount("/static", shared_static())

    @app.get("/link/{token}")
    def link(request: Request, token: str) -> Response:
        response = pages.arrive(request, up(request))
        COOKIE.give(request, response, token)
        return response

    @app.get("/")
    def first(request: Request) -> Response:
        session = COOKIE.read(request)
        return pages.render(request, "first", session=session, word=f"<{session}>")

    @app.post("/change")
    def change(request: Request) -> dict[str, bool]:
        return {"holds": csrf_holds(request, COOKIE.read(request))}

    return TestClient(app, base_url="https://127.0.0.1", follow_redirects=False)


def test_a_link_becomes_a_cookie_and_an_address_without_it(client):
    arrived = client.get("/link/secret")
    assert (arrived.status_code, arrived.headers["location"]) == (303, "../")
    cookie = arrived.headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "secure", "path=/"):
        assert part in cookie
    page = client.get("/").text
    assert "&lt;secret&gt;" in page
    assert f'content="{csrf_token("secret")}"' in page


def test_from_another_site_a_page_of_ours_goes_on(client):
    arrived = client.get("/link/secret", headers={"sec-fetch-site": "cross-site"})
    assert arrived.status_code == 200
    assert 'http-equiv="refresh" content="0;url=../"' in arrived.text
    assert "samesite=strict" in arrived.headers["set-cookie"].lower()


def test_changes_need_the_token_of_the_page(client):
    client.get("/link/secret")
    sent = {"x-csrf-token": csrf_token("secret")}
    assert client.post("/change", headers=sent).json() == {"holds": True}
    assert client.post("/change", headers={"x-csrf-token": "é".encode()}).json() == {"holds": False}
    assert client.post("/change").json() == {"holds": False}


def test_static_files_are_asked_about_each_time(client):
    for name in ("style.css", "theme.js", "viewer.js", "page.js", "icon.svg"):
        assert client.get(f"/static/{name}").headers["cache-control"] == "no-cache"


def test_tokens():
    assert new_token() != new_token()
    assert len(new_token()) >= 43
    assert digest("a") != digest("b")
