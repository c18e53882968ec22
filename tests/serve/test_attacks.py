"""Attacks that web pages of this kind have fallen to."""

import base64
import io
import json
import os
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.images.test_dicom_frames import holding
from tests.serve.conftest import FAKE, HOST

from vesalius.web.guard import CONTENT_POLICY

JOB = {"kind": "generate", "prompt": "a lung"}


def routes(house):
    """Every method and path that the server has, ids filled in."""
    schema = house.client().get("/api/v1/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method in methods:
            yield method.upper(), path.replace("{id}", "0" * 32).replace("{number}", "0")


def test_nothing_answers_whom_it_does_not_know(house):
    stranger = house.client(None)
    asked = [*routes(house), ("GET", "/api"), ("GET", "/api/v1/openapi.json")]
    assert len(asked) > 30
    for method, path in asked:
        if (method, path) == ("POST", "/api/v1/session"):
            continue
        answer = stranger.request(method, path, json={} if method == "POST" else None)
        assert answer.status_code == 401, (method, path, answer.status_code)
        if path == "/api":  # a page, to sign in
            assert "jobs" not in answer.text
            continue
        assert set(answer.json()) <= {"detail", "error"}


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Bearer",
            "Bearer ",
            "Bearer x",
            "Basic x",
            "Basic " + base64.b64encode(b"ann:").decode(),
        ),
        *(
            "Basic " + base64.b64encode(b"ann:ann").decode(),
            "Digest x",
            "\x00",
            "Bearer " + "x" * 5000,
        ),
    ],
)
def test_wrong_keys_are_nobody(house, header):
    answer = house.client(None).get("/api/v1/jobs", headers={"Authorization": header})
    assert answer.status_code == 401


def test_keys_are_for_bearer_and_basic(house):
    basic = base64.b64encode(f"anybody:{house.keys['ann']}".encode()).decode()
    answer = house.client(None).get("/api/v1/session", headers={"Authorization": f"Basic {basic}"})
    assert answer.json()["user"] == "ann"
    assert oct(os.stat(house.folder / "keys.json").st_mode & 0o777) == "0o600"


@pytest.mark.parametrize(
    "id",
    [
        *(
            "../../etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "%2e%2e",
            "....//",
            "/etc/passwd",
            "0" * 31,
        ),
        *("0" * 33, "G" * 32, "0" * 31 + "%0a", "0" * 31 + "%00", "library.sqlite", "keys.json"),
    ],
)
def test_ids_are_no_paths(house, ann, id):
    for place in (
        "images/{}",
        "images/{}/provenance",
        "jobs/{}",
        "jobs/{}/events",
        "sets/{}/images",
    ):
        answer = ann.get(f"/api/v1/{place.format(id)}")
        assert answer.status_code in (404, 405, 422), (place, answer.status_code)
        assert "root:" not in answer.text
    for path in (f"/static/{id}", f"/static/../{id}", f"/static//{id}"):
        assert ann.get(path).status_code in (404, 405)


def test_guessed_ids_are_not_there(ann, draw):
    known = draw(ann)["images"][0]["id"]
    near = known[:-1] + ("0" if known[-1] != "0" else "1")
    for place in (
        f"images/{near}",
        f"jobs/{near}",
        f"evidence/{near}/report",
        f"sets/{near}/images",
    ):
        assert ann.get(f"/api/v1/{place}").status_code == 404


def test_another_site_cannot_act_for_a_browser(house):
    browser = house.browser()
    assert browser.post("/api/v1/jobs", json=JOB).status_code == 202
    for origin in (
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://127.0.0.1.evil.example",
    ):
        answer = browser.post("/api/v1/jobs", json=JOB, headers={"Origin": origin})
        assert answer.status_code == 403
    answer = browser.post("/api/v1/jobs", json=JOB, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    del browser.headers["X-CSRF-Token"]
    assert browser.post("/api/v1/jobs", json=JOB).status_code == 403
    other = house.browser("bob").headers["X-CSRF-Token"]
    assert (
        browser.post("/api/v1/jobs", json=JOB, headers={"X-CSRF-Token": other}).status_code == 403
    )
    assert browser.delete("/api/v1/session").status_code == 403


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""],
)
def test_what_a_form_can_send_is_refused(house, kind):
    browser = house.browser()
    for path in (
        "/api/v1/jobs",
        "/sdapi/v1/txt2img",
        "/v1/images/generations",
        "/sdapi/v1/interrupt",
    ):
        answer = browser.post(path, content=json.dumps(JOB), headers={"Content-Type": kind})
        assert answer.status_code == 415


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8765", "[::1", ""]
)
def test_a_name_that_points_here_does_not_get_in(house, host):
    answer = house.browser().get("/api/v1/jobs", headers={"Host": host})
    assert answer.status_code in (400, 421)


def test_no_other_site_may_read(house):
    answer = house.browser().get("/api/v1/jobs", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    answer = house.browser().options(
        "/api/v1/jobs",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_has_the_headers(house, ann, draw):
    image = draw(ann)["images"][0]["id"]
    for path in (
        "/api",
        "/api/v1/jobs",
        f"/api/v1/images/{image}",
        "/none",
        "/static/icon.svg",
        "/enter",
    ):
        headers = ann.get(path).headers
        assert headers["content-security-policy"] == CONTENT_POLICY, path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "SAMEORIGIN"


def test_an_address_opens_once(house):
    token = house.access.link("ann")
    first, second = house.client(None), house.client(None)
    entered = first.get("/enter", params={"token": token}, follow_redirects=False)
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert second.get("/enter", params={"token": token}).status_code == 403
    assert second.get("/api/v1/jobs").status_code == 401
    assert first.get("/api/v1/jobs").status_code == 200


def test_a_session_outlives_the_server_and_ends_when_told(house):
    browser = house.browser()
    cookies = dict(browser.cookies)
    house.close()
    house.open()
    again = TestClient(house.app, base_url=HOST, cookies=cookies)
    token = again.get("/api/v1/session").json()["csrf"]
    assert again.delete("/api/v1/session", headers={"X-CSRF-Token": token}).status_code == 204
    late = TestClient(house.app, base_url=HOST, cookies=cookies)
    assert late.get("/api/v1/session").status_code == 401


def test_a_key_in_an_address_opens_nothing(house):
    answer = house.client(None).get("/enter", params={"token": house.keys["ann"]})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_strangers_can_send_little(house):
    stranger, long = house.client(None), {"prompt": "x" * 5_000}
    for path in ("/api/v1/session", "/api/v1/jobs", "/sdapi/v1/txt2img"):
        assert stranger.post(path, json=long).status_code == 413
    assert stranger.post("/api/v1/jobs", json=JOB).status_code == 401
    browser = house.browser()
    del browser.headers["X-CSRF-Token"]
    assert browser.post("/api/v1/jobs", json=long).status_code == 413


def test_a_key_signs_a_browser_in(house):
    browser = house.client(None)
    assert browser.post("/api/v1/session", json={"key": "wrong"}).status_code == 403
    assert browser.post("/api/v1/session", json={"key": house.keys["bob"]}).json()["user"] == "bob"
    assert browser.get("/api/v1/session").json()["user"] == "bob"


EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "a\r\nSet-Cookie: x=1",
    "{{ 7*7 }} ${7*7} %(x)s %n",
    "'; DROP TABLE job; --",
    "\u202e\u0000",
]


@pytest.mark.parametrize("text", EVIL)
def test_words_stay_words(ann, draw, text):
    answer = ann.post("/api/v1/jobs", json=JOB | {"prompt": text, "label": text[:200]})
    if "\r" in text or "\0" in text:
        assert answer.status_code == 422
        return
    assert answer.headers["content-type"] == "application/json"
    assert "set-cookie" not in answer.headers
    job = draw(ann, **JOB | {"prompt": text, "label": text[:200]})
    about = ann.get(f"/api/v1/images/{job['images'][0]['id']}/about").json()
    assert about["prompt"] == text.strip()
    assert ann.get("/api/v1/images", params={"words": text}).json()["total"] == 2


@pytest.mark.parametrize(("words", "status"), [("a " * 250, 200), ("a " * 1000, 422)])
def test_a_search_for_many_words(ann, words, status):
    assert ann.get("/api/v1/images", params={"words": words}).status_code == status


def test_headers_cannot_be_injected(ann):
    for key in ("a\r\nX: 1", "a\nb"):
        try:
            answer = ann.post("/api/v1/jobs", json=JOB, headers={"Idempotency-Key": key})
        except Exception:  # the client itself will not send it
            continue
        assert "x" not in answer.headers


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """A PNG that says it is huge."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", rows)


def text_bomb():
    """A PNG with a text that grows to a gigabyte."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "PNG")
    whole = stream.getvalue()
    packed = zlib.compressobj(9)
    data = b"".join([packed.compress(b"\0" * 2**20) for _ in range(256)] + [packed.flush()])
    return whole[:33] + png_chunk(b"zTXt", b"k\0\0" + data) + whole[33:]


def deflated_dicom():
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset.Rows = dataset.Columns = 16
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def dicom_bomb():
    """16 x 16 by its tags, and a frame of 60,000 x 60,000 black pixels."""
    stream = io.BytesIO()
    Image.new("L", (16, 16)).save(stream, "JPEG2000", no_jp2=True)
    frame = bytearray(stream.getvalue())
    frame[8:16] = (60_000).to_bytes(4) * 2
    return holding(bytes(frame), "1.2.840.10008.1.2.4.90")


@pytest.mark.parametrize(
    "make",
    [
        dicom_bomb,
        *(lambda: bomb(50_000, 50_000), lambda: bomb(2**31 - 1, 1), text_bomb, deflated_dicom),
        *(
            lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n",
        ),
        *(lambda: b"", lambda: b"GIF89a" + b"\xff" * 20, lambda: bomb(0, 0)),
    ],
)
def test_bombs_and_programs_are_refused(house, ann, make):
    data = base64.b64encode(make()).decode()
    for path, body in (
        ("/api/v1/jobs", JOB | {"kind": "image-to-image", "image": {"data": data}}),
        ("/sdapi/v1/img2img", {"prompt": "a", "init_images": [data]}),
        ("/sdapi/v1/png-info", {"image": data}),
    ):
        answer = ann.post(path, json=body)
        assert answer.status_code == 422, (path, answer.text[:300])
        assert "BytesIO" not in answer.text
        assert "\n" not in answer.json()["detail"]
    assert not list((house.folder / "uploads").glob("*"))


def test_a_body_that_is_too_large_is_not_read(ann):
    answer = ann.post("/api/v1/jobs", json=JOB | {"negative": "x" * 16_000_001})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "1" * 5_000, "NaN", "{", '"\\ud800"', ""]
)
def test_json_that_is_none_or_too_deep(ann, text):
    answer = ann.post("/api/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text[:200]
    assert len(answer.json()["detail"]) <= 500


def test_no_address_is_fetched(ann, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for picture in ("http://example.com/x.png", "file:///etc/passwd", "data:image/png,http://x"):
        body = JOB | {"kind": "image-to-image", "image": {"data": picture}}
        assert ann.post("/api/v1/jobs", json=body).status_code == 422


def test_no_secret_is_in_a_log_or_an_error(tmp_path):
    """The whole command, with an address that is opened, a key that is used, and requests that fail."""
    library = tmp_path / "library"
    script = f"""
import json, os, signal, threading, urllib.request
from pathlib import Path
from vesalius.serve import run, conductor
conductor.Conductor.__init__.__defaults__ = ({FAKE!r},)
from vesalius.serve.settings import ServeSettings
def opened(where):
    def use():
        link = next(iter(where.links.values()))
        base = link.partition("enter")[0]
        key = json.load(open({str(library / "keys.json")!r}))["lab"]
        for address in (link, link, base + "api/v1/images/" + key, base + "none?token=" + key):
            request = urllib.request.Request(address, headers={{"Authorization": "Bearer " + key}})
            try:
                urllib.request.urlopen(request).read()
            except urllib.error.HTTPError as error:
                error.read()
        print(link.partition("token=")[2], key, flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=use).start()
run.serve(ServeSettings(library=Path({str(library)!r}), port=0, no_browser=True), opened)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    token, key = done.stdout.split()
    assert token not in done.stderr
    assert key not in done.stderr
    for path in library.rglob("*"):
        if path.is_file() and path.name != "keys.json":
            assert token.encode() not in path.read_bytes()
            assert key.encode() not in path.read_bytes()
