"""A reading from link to end, and everything that can go wrong on the way."""

import builtins
import os
import re
import sqlite3
import threading

import pytest

from vesalius.errors import VesaliusError
from vesalius.study.database import Database
from vesalius.study.layout import Layout
from vesalius.study.progress import progress
from vesalius.study.server.links import new_link
from vesalius.study.server.material import open_material

HTML = {"accept": "text/html"}


def test_a_whole_reading(desk):
    reader = desk.reader()
    assert reader.read() == 20
    assert reader.state() == {"page": "end", "done": 20, "of": 20, "back": reader.state()["back"]}
    assert "Thank you" in reader.get("").text
    row = desk.database.reader(id="R1")
    assert row.finished_at
    assert row.specialty == "radiology"
    assert (row.profile["years"], row.profile["seen_before"]) == (7, "some")
    assert len(desk.database.counted("R1")) == 20
    kinds = [event.kind for event in desk.database.events("R1")]
    assert kinds == ["link", "consent", "profile", "display", "finished"]
    answer = next(iter(desk.database.counted("R1").values()))
    assert (answer.visible_ms, answer.tools["waited_ms"]) == (1400, 1)
    assert answer.submitted_at - answer.shown_at == pytest.approx(1.5)


def test_training_tells_the_right_answer_only_afterwards(desk):
    reader = desk.reader()
    state = reader.state()
    assert state["block"]["practice"]
    assert "feedback" not in str(state)
    body = reader.body(state) | {"value": "synthetic"}
    told = reader.post("answer", body).json()
    assert told["feedback"] == {"right": False, "text": "The right answer is: Real."}
    assert not told["state"]["block"]["practice"]
    assert "feedback" not in reader.post("answer", reader.body(told["state"])).json()


def test_an_answer_counts_once_and_in_order(desk):
    reader = desk.reader()
    reader.read(1)  # training
    body = reader.body(reader.state())
    first, again = reader.post("answer", body), reader.post("answer", body)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["state"]["done"] == again.json()["state"]["done"] == 2
    second_window = body | {"client_uuid": "0" * 32, "value": "real"}
    refused = reader.post("answer", second_window)
    assert refused.status_code == 409
    assert refused.json()["state"]["trials"][0]["token"] != body["trial"]
    ahead = reader.state()["trials"][1]["token"]
    assert reader.post("answer", reader.body(reader.state()) | {"trial": ahead}).status_code == 409
    assert len(list(desk.database.answers("R1"))) == 2


def test_undo_adds_a_row_and_stops_at_the_block(desk):
    reader = desk.reader()
    reader.read(1)
    assert reader.state()["back"] is None  # training was answered aloud
    reader.read(1)
    back = reader.state()["back"]
    undo = {"client_uuid": "1" * 32, "trial": back["token"], "value": ""}
    told = reader.post("answer", undo).json()["state"]
    assert told["trials"][0] == back
    assert told["done"] == 1
    assert reader.post("answer", undo).status_code == 200  # sent twice
    assert reader.post("answer", undo | {"client_uuid": "2" * 32}).status_code == 409
    reader.read(1)
    assert [a.value == "" for a in desk.database.answers("R1")] == [False, False, True, False]
    reader.read(2)
    assert reader.state()["back"] is None  # the next block has begun


def test_the_last_answer_can_be_taken_back_for_a_while(desk):
    reader = desk.reader()
    reader.read()
    assert 'data-send="undo"' in reader.get("").text
    assert reader.post("undo", {}).status_code == 200
    assert desk.database.reader(id="R1").finished_at is None
    assert reader.read() == 1
    assert desk.database.reader(id="R1").finished_at


@pytest.mark.parametrize(
    "change",
    [
        {"value": "perhaps"},
        {"confidence": None},
        {"confidence": 4},
        {"client_uuid": "x"},
        {"arm": "real"},
        {"wrong_words": [0]},
        {"tools": {"zoomed": -1}},
    ],
)
def test_answers_that_were_not_offered_are_refused(desk, change):
    reader = desk.reader()
    assert reader.post("answer", reader.body(reader.state()) | change).status_code == 422
    assert list(desk.database.answers()) == []


def test_ticked_words_are_kept(serve_small):
    desk = serve_small(tasks=("alignment",), training=0, trials=1)
    reader = desk.reader()
    state = reader.state()
    assert state["trials"][0]["words"] == ["chest", "x-ray", "with", "a", "nodule"]
    body = reader.body(state) | {"wrong_words": [4, 0, 4]}
    assert reader.post("answer", body | {"wrong_words": [5]}).status_code == 422
    assert reader.post("answer", body).status_code == 200
    assert next(desk.database.answers()).details == "[0, 4]"


def test_times_that_make_no_sense_are_flagged_not_kept(serve_small):
    desk = serve_small(tasks=("quality",), training=0, trials=2)
    reader = desk.reader()
    jumped = reader.body(reader.state()) | {"elapsed_ms": -5000, "visible_ms": 1e12}
    reader.post("answer", jumped)
    answer = next(desk.database.answers())
    assert (answer.shown_at, answer.visible_ms) == (None, None)
    assert answer.submitted_at == pytest.approx(answer.received_at, abs=0.01)
    clock = next(event for event in desk.database.events("R1") if event.kind == "clock")
    assert "elapsed_ms -5000" in clock.details


def test_who_only_follows_a_link_has_not_opened_the_reading(desk):
    scanner, reader = desk.reader(arrives=False), desk.reader(arrives=False)
    assert "Open the reading" in scanner.client.get(scanner.link).text
    assert scanner.get("state").status_code == 401
    assert desk.database.reader(id="R1").started_at is None
    reader.arrive()
    reader.read(1)
    kinds = [event.kind for event in desk.database.events("R1")]
    assert "takeover" not in kinds and reader.state()["done"] == 1


def test_a_link_in_two_browsers_is_one_reading(desk):
    first, second = desk.reader(), desk.reader(arrives=False)
    first.read(2)
    page = second.open_link()
    assert "open in another browser" in page.text
    assert second.get("state").status_code == 401
    taken = second.client.post(f"{second.link}/take", json={})
    assert taken.json() == {"next": "../"}
    second.read_token(second.get(""))
    told = first.post("answer", {})
    assert told.status_code in (401, 422)
    told = first.get("state")
    assert (told.status_code, told.json()["reason"]) == (401, "elsewhere")
    assert "Open elsewhere" in first.get("", headers=HTML).text
    assert second.state()["done"] == 2
    second.rng.seed(99)
    second.read()
    assert len(desk.database.counted("R1")) == 20
    assert len(list(desk.database.answers("R1"))) == 20


def test_two_windows_that_answer_at_once_give_one_answer(desk):
    one, two = desk.reader(), desk.reader(arrives=False)
    two.client, two.csrf = one.client, one.csrf
    two.rng.seed(5)
    state = one.state()
    codes = []

    def answer(window):
        codes.append(window.post("answer", window.body(state)).status_code)

    threads = [threading.Thread(target=answer, args=(window,)) for window in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 409]
    assert len(list(desk.database.answers())) == 1


def test_a_new_link_shuts_the_old_one_out(desk):
    reader = desk.reader()
    token = new_link(desk.database, "R1")
    assert reader.get("state").status_code == 401
    assert reader.client.get(reader.link).status_code == 404
    desk.links["R1"] = token
    assert desk.reader().state()["done"] == 0
    with pytest.raises(VesaliusError, match="no reader R9: choose of R1, R2"):
        new_link(desk.database, "R9")


def test_no_one_gets_in_without_a_link_or_changes_without_the_page(desk):
    client = desk.client()
    for path in ("/", "/state", "/here"):
        assert client.get(path).status_code == 401
    assert client.get("/r/guess", headers=HTML).status_code == 404
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404
    assert client.get("/progress/guess").status_code == 404
    reader = desk.reader()
    reader.csrf = "0" * 64
    assert reader.post("answer", reader.body(reader.state())).status_code == 401
    other = desk.reader("R2")
    image = other.state()["trials"][0]["images"][0]
    assert reader.get(image).status_code == 404


def test_each_page_in_its_turn(serve_small):
    desk = serve_small(unaware=1)
    reader = desk.reader(arrives=False)
    assert 'data-send="consent"' in reader.open_link().text
    assert reader.state()["page"] == "consent"
    reader.arrive()
    state = reader.state()
    assert (state["page"], state["block"]["practice"]) == ("reading", True)
    state = reader.post("answer", reader.body(state)).json()["state"]
    assert (state["page"], state["block"]["practice"]) == ("reading", False)
    told = reader.post("answer", reader.body(state)).json()["state"]
    assert told["page"] == "briefing"
    assert "trials" not in told
    assert "computer generated" in reader.get("").text
    reader.post("briefing", {"seen_before": "never"})
    assert reader.state()["page"] == "reading"
    assert desk.database.reader(id="R1").profile["seen_before"] == "never"


GIVE_AWAY = re.compile(
    r"synthe|generat|artific|\bfakes?\b|\breal\b|turing|computer|unaware|\bAI\b|phase",
    re.IGNORECASE,
)


def test_the_unaware_phase_says_nothing_of_synthetic_images(serve_small):
    """Every page, script, style and response until the briefing."""
    desk = serve_small(unaware=2)
    reader = desk.reader(arrives=False)
    for name in ("static/style.css", "static/theme.js", "static/page.js", "static/viewer.js"):
        reader.get(name)
    for name in ("reading", "queue", "keys", "panel", "pictures", "display"):
        reader.get(f"own/{name}.js")
    reader.get("own/study.css")
    reader.arrive()
    for _ in range(3):  # practice, then two that count
        state = reader.state()
        reader.get("")
        assert {len(trial["images"]) for trial in state["trials"]} == {1}
        reader.images(state)
        reader.post("answer", reader.body(state))
    told = reader.responses.pop().json()  # the last one says that the briefing is next
    assert told["state"]["page"] == "briefing"
    assert len(reader.responses) > 20
    for response in reader.responses:
        if response.headers["content-type"] != "image/png":
            found = GIVE_AWAY.search(response.text)
            assert not found, (
                f"{response.url}: {response.text[found.start() - 40 : found.end() + 40]}"
            )


def test_a_break_is_due_after_so_many_trials(serve_small):
    desk = serve_small(tasks=("quality",), trials=4, training=0)
    reader = desk.reader()
    assert reader.state()["pause"]["trials"] == 50
    reader.read(2)
    assert reader.state()["pause"]["trials"] == 48
    assert 0 < reader.state()["pause"]["seconds"] <= 1500
    reader.post("event", {"kind": "break", "details": "60 s"})
    assert reader.state()["pause"]["trials"] == 50


def test_keys_are_kept(desk):
    reader = desk.reader()
    reader.post("keys", {"keys": {"undo": "z"}, "at_once": False})
    page = reader.get("").text
    assert "&#34;undo&#34;: &#34;z&#34;" in page
    assert 'data-at-once="false"' in page


@pytest.mark.parametrize("takes_off", [False, True])
def test_below_a_sub_path(serve_small, takes_off):
    """Behind a proxy that leaves the path as it is, and behind one that takes the sub-path off."""
    desk = serve_small(root_path="/eye", tasks=("turing",))
    reader = desk.reader(arrives=False)
    if takes_off:
        plain = reader.link.replace("/eye", "")
        assert "Open the reading" in reader.client.get(plain).text
        arrived = reader.client.post(f"{plain}/take", json={})
        assert arrived.json() == {"next": "../"}
        assert "path=/eye" in arrived.headers["set-cookie"].lower()
    else:
        reader.arrive()
        assert reader.read() == 4
        page = reader.get("").text
        assert not re.search(r'(?:src|href|action)="/', page)


def test_progress_shows_no_answer(desk):
    reader = desk.reader()
    reader.read(5)
    text = str(progress(desk.database))
    assert re.search(r"R1 +reading +5 of 20 +1\.4 s +now", text)
    assert re.search(r"R2 +link given +0 of 20", text)
    page = desk.client().get("/progress/see").text
    for said in (text, page):
        for value in ("synthetic", "real", "tie", "nodule", "confidence"):
            assert value not in said
    reader.read()
    assert re.search(r"R1 +finished +20 of 20", str(progress(desk.database)))
    assert re.search(r"R2 +link given +0 of 20", str(progress(desk.database)))


def test_the_key_is_never_opened(desk, monkeypatch):
    """Not by `open`, not by Path, not by SQLite: the server reads on although the key is poison."""
    layout = desk.material.layout
    for path in (layout.key, layout.key_trials):
        path.write_bytes(b"PAR1")
    opened = []
    kept = {"open": builtins.open, "os": os.open, "connect": sqlite3.connect}

    def spy(name):
        def call(path, *args, **kwargs):
            opened.append(str(path))
            return kept[name](path, *args, **kwargs)

        return call

    monkeypatch.setattr(builtins, "open", spy("open"))
    monkeypatch.setattr("io.open", spy("open"))
    monkeypatch.setattr(os, "open", spy("os"))
    monkeypatch.setattr(sqlite3, "connect", spy("connect"))
    again = open_material(layout.folder)
    reader = desk.reader()
    reader.read()
    progress(again.database)
    again.database.close()
    assert any("study.sqlite" in path for path in opened)
    assert any("images" in path for path in opened)
    assert [path for path in opened if "key" in path and path.endswith(".parquet")] == []


def test_a_full_disk_is_one_clear_page_and_nothing_is_lost(desk):
    reader = desk.reader()
    reader.read(3)
    writer = desk.database._store._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    body = reader.body(reader.state())
    told = None
    for _ in range(400):  # until the last page of the file is full
        told = reader.post("event", {"kind": "comment", "details": "x" * 1500})
        if told.status_code != 200:
            break
    assert (told.status_code, told.json()["reason"]) == (507, "full")
    assert "Nothing is lost" in told.json()["detail"]
    writer.execute("PRAGMA max_page_count = 1000000")
    assert reader.post("answer", body).json()["state"]["done"] == 4


def test_what_is_not_as_it_was_locked_is_not_served(serve_small):
    desk = serve_small(tasks=("quality",))
    layout: Layout = desk.material.layout
    desk.database.close()
    image = next(layout.images.iterdir())
    before = image.read_bytes()
    image.write_bytes(before + b"x")
    with pytest.raises(VesaliusError, match="was changed after it was locked: 1 images"):
        open_material(layout.folder)
    image.write_bytes(before)
    lock = layout.lock.read_bytes()
    layout.lock.write_bytes(lock + b" ")
    with pytest.raises(VesaliusError, match=r"after it was locked: protocol\.lock\.json"):
        open_material(layout.folder)
    layout.lock.unlink()
    with pytest.raises(VesaliusError, match="is not locked: run `vesalius study lock"):
        open_material(layout.folder)
    layout.lock.write_bytes(lock)
    with sqlite3.connect(layout.database) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(VesaliusError, match="version 99 of its format, and this vesalius reads 1"):
        open_material(layout.folder)


def test_a_database_open_elsewhere_sees_the_same(desk):
    reader = desk.reader()
    reader.read(2)
    with Database(desk.material.layout.database) as other:
        assert len(other.counted("R1")) == 2
