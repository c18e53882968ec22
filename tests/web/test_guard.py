"""What is let through, and the headers that go with every response."""

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from vesalius.web.guard import CONTENT_POLICY, Guard, Rules

HOST = "http://127.0.0.1:8765"


def application():
    app = FastAPI(docs_url=None, openapi_url=None)

    @app.get("/here")
    def here(request: Request) -> dict[str, str]:
        return {"path": request.url.path, "scheme": request.url.scheme}

    @app.post("/change")
    async def change(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    return app


def client(**rules):
    rules = {"hosts": frozenset({"127.0.0.1"}), "largest_body": 100} | rules
    return TestClient(Guard(application(), Rules(**rules)), base_url=HOST)


def test_every_response_has_the_headers():
    for response in (client().get("/here"), client().get("/none"), client().post("/change")):
        assert response.headers["content-security-policy"] == CONTENT_POLICY
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1", 200),
        ("evil.example", 421),
        ("[::1]:80", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_only_its_own_names_reach_it(host, status):
    assert client().get("/here", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("10.1.2.3:8765", 200), ("[fe80::1]:8765", 200), ("127.0.0.1", 200)),
        *(("evil.example", 421), ("10.1.2.3.evil.example", 421), ("", 421), ("[::1", 421)),
    ],
)
def test_an_address_of_any_interface_but_no_other_name_where_it_listens_everywhere(host, status):
    asked = client(by_address=True).get("/here", headers={"host": host})
    assert asked.status_code == status


@pytest.mark.parametrize(("origin", "scheme"), [("https://study.example", "https"), ("", "http")])
def test_cookies_behind_a_proxy_with_tls_are_for_tls_alone(origin, scheme):
    assert client(origin=origin).get("/here").json()["scheme"] == scheme


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": HOST}, 200),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://study.example"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_changes_come_from_its_own_pages(headers, status):
    asked = client(origin="https://study.example").post("/change", json={}, headers=headers)
    assert asked.status_code == status


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_bodies_that_a_form_can_send_are_refused(kind):
    asked = client().post("/change", content=b"a=b", headers={"content-type": kind})
    assert asked.status_code == 415


def test_large_bodies_are_refused_whether_announced_or_not():
    json = {"content-type": "application/json"}
    assert client().post("/change", content=b"1" * 100, headers=json).json() == {"bytes": 100}
    assert client().post("/change", content=b"1" * 101, headers=json).status_code == 413
    in_parts = (b"1" * 60 for _ in range(2))
    assert client().post("/change", content=in_parts, headers=json).status_code == 413


@pytest.mark.parametrize("path", ["/study/here", "/here"])
def test_a_sub_path_works_whether_the_proxy_takes_it_off_or_not(path):
    assert client(root_path="/study").get(path).json()["path"] == "/study/here"
