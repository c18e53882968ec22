"""Jobs and the library, as programs ask for them."""

import asyncio
import base64
import contextlib
import errno
import io
import json
import sqlite3
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vesalius.images.provenance import read_provenance
from vesalius.sample.folder import digest
from vesalius.web.store import DiskFull


def png(side=32, level=90):
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (level,) * 3).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


BODIES = {
    "generate": {"prompt": "a lung", "n": 2},
    "image-to-image": {"prompt": "a lung", "image": {"data": png()}, "n": 2},
    "compose": {"parts": [{"prompt": "a lung", "weight": 0.5}, {"prompt": "a rib"}], "n": 2},
    "interpolate": {"first": "a lung", "second": "a rib", "frames": 3},
    "inpaint": {"prompt": "a lung", "image": {"data": png()}, "ellipses": ["0.5,0.5,0.2,0.2"]},
}


@pytest.mark.parametrize("kind", BODIES)
def test_each_kind_of_job_ends_in_the_library(house, ann, draw, kind):
    job = draw(ann, kind=kind, label="try", **BODIES[kind])
    assert job["state"] == "done", job
    assert job["total"] == job["done"] == len(job["images"])
    assert job["place"] is None
    found = ann.get("/api/v1/images", params={"job": job["id"]}).json()
    assert [image["number"] for image in found["images"]][::-1] == list(range(job["total"]))
    for image in found["images"]:
        content = ann.get(f"/api/v1/images/{image['id']}").content
        assert digest(content) == image["sha256"]
        assert read_provenance(content)["seed"] == str(image["seed"])
        assert image["label"] == "try"
    assert not list((house.folder / "uploads").glob("*"))


def test_a_job_is_followed_to_its_end(house, ann):
    id = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "slow", "n": 2}).json()["id"]
    text = ann.get(f"/api/v1/jobs/{id}/events").text
    events = [
        dict(line.split(": ", 1) for line in block.split("\n"))
        for block in text.split("\n\n")
        if "data" in block
    ]
    names = [event["event"] for event in events]
    assert names[0] == names[-1] == "job"
    assert names.count("image") == 2
    assert json.loads(events[-1]["data"])["state"] == "done"
    steps = [json.loads(event["data"]) for event in events if event["event"] == "step"]
    assert steps
    assert all(0 < step["done"] <= 2 for step in steps)
    looks = [preview for step in steps for preview in step["previews"]]
    assert Image.open(io.BytesIO(base64.b64decode(looks[0]["png"]))).size == (2, 2)
    last = next(event["id"] for event in events if event["event"] == "image")
    again = ann.get(f"/api/v1/jobs/{id}/events", headers={"Last-Event-ID": last}).text
    assert again.count("event:") == 1, "it is over: how it stands is all"


def test_who_comes_back_is_told_what_he_missed(house):
    events = house.service.events
    for number in range(3):
        events.tell("a", "image", {"number": number})
    events.tell("a", "job", {"state": "done"}, over=True)
    missed = asyncio.run(_all(events.follow("a", events.place(f"{events.boot}-2"))))
    assert [event.data for event in missed] == [{"number": 2}, {"state": "done"}]
    assert len(asyncio.run(_all(events.follow("a", events.place("other-2"))))) == 4
    assert events.place(None) == events.place("x") == events.place(f"{events.boot}-²") == 0


async def _all(events):
    return [event async for event in events]


def test_the_same_key_is_the_same_job(ann, bob):
    key = {"Idempotency-Key": "k1"}
    body = {"kind": "generate", "prompt": "a lung"}
    first, second = (ann.post("/api/v1/jobs", json=body, headers=key).json() for _ in range(2))
    assert first["id"] == second["id"]
    other = ann.post("/api/v1/jobs", json=body | {"n": 2}, headers=key)
    assert other.status_code == 409
    assert bob.post("/api/v1/jobs", json=body, headers=key).json()["id"] != first["id"]


def test_the_queue_is_bounded_and_says_so(house, ann, ended):
    ids = []
    while (
        answer := ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "slow", "n": 9})
    ).status_code == 202:
        ids.append(answer.json())
        assert len(ids) <= 33
    assert answer.status_code == 429
    assert answer.headers["retry-after"]
    assert "32 jobs" in answer.json()["detail"]
    queue = [job for job in ann.get("/api/v1/jobs").json()["jobs"] if job["place"]]
    assert [job["place"] for job in queue] == list(range(1, len(queue) + 1))
    for job in ids:
        ann.delete(f"/api/v1/jobs/{job['id']}")
    assert {ended(ann, job["id"])["state"] for job in ids} <= {"cancelled", "done"}


def test_a_job_is_cancelled_while_it_is_drawn(ann, ended):
    id = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "slow", "n": 16}).json()["id"]
    while not ann.get(f"/api/v1/jobs/{id}").json()["images"]:
        pass
    assert ann.delete(f"/api/v1/jobs/{id}").json()["state"] == "cancelled"
    after = ended(ann, id)
    assert 0 < len(after["images"]) < 16
    assert ann.delete(f"/api/v1/jobs/{id}").status_code == 409
    again = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "next"}).json()["id"]
    assert ended(ann, again)["state"] == "done"


def test_a_job_that_cannot_be_drawn_says_why(ann, draw):
    job = draw(ann, prompt="fail")
    assert (job["state"], job["error"]) == ("failed", "it cannot be drawn")
    assert draw(ann, prompt="long")["warnings"] == ["it is long"]


def test_a_dead_worker_is_replaced_and_its_job_ends(ann, draw):
    job = draw(ann, prompt="die once", n=3)
    assert job["state"] == "done"
    assert [image["number"] for image in job["images"]] == [0, 1, 2]


def test_jobs_and_images_outlive_the_server(house, ann, draw, ended):
    done = draw(ann, n=2)
    ids = [
        ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "slow", "n": 4}).json()["id"]
        for _ in range(3)
    ]
    house.close()
    client = house.open().client()
    for id in ids:
        job = ended(client, id)
        assert job["state"] == "done"
        assert len(job["images"]) == 4
    assert client.get(f"/api/v1/jobs/{done['id']}").json()["images"] == done["images"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 151}, "steps"),
        ({"n": 17}, "n:"),
        ({"prompt": " "}, "empty"),
        ({"prompt": "a AND :2"}, "empty"),
        ({"prompt": "x" * 2001}, "2000"),
        ({"prompt": "a\0b"}, "control"),
        ({"size": "250"}, "multiples of 32"),
        ({"size": "1024x2048"}, "1,048,576"),
        ({"size": "0"}, "size"),
        ({"guidance": 1000}, "guidance"),
        ({"guidance_interval": [0.8, 0.2]}, "interval"),
        ({"sampler": "magic"}, "sampler"),
        ({"seed": 2**63}, "seed"),
        ({"model": "/etc"}, "no model"),
        ({"adapters": [{"id": "../x"}]}, "no adapter"),
        ({"url": "http://example.com/x.png"}, "url"),
        ({"kind": "image-to-image"}, "image"),
        ({"kind": "image-to-image", "image": {"data": "AAAA"}}, "no image"),
        ({"kind": "image-to-image", "image": {"data": "http://example.com/x.png"}}, "base64"),
        ({"kind": "image-to-image", "image": {"id": "0" * 32}}, "no such image"),
        ({"kind": "inpaint", "image": {"data": png()}}, "nothing says"),
        ({"kind": "inpaint", "image": {"data": png()}, "mask": {"data": png(16, 255)}}, "one size"),
        ({"kind": "inpaint", "image": {"data": png()}, "mask": {"data": png(32, 0)}}, "black"),
        ({"kind": "inpaint", "image": {"data": png()}, "ellipses": ["x"]}, "ellipse"),
        ({"kind": "interpolate"}, "first"),
        ({"kind": "nothing"}, "kind"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(house, ann, change, said):
    answer = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "a lung"} | change)
    assert answer.status_code in (404, 422), answer.text
    detail = answer.json()["detail"]
    assert said in detail
    assert "\n" not in detail
    assert str(house.folder) not in detail
    assert not list((house.folder / "uploads").glob("*"))
    assert ann.get("/api/v1/jobs").json() == {"jobs": []}


def test_a_seed_that_was_drawn_is_told(ann, draw):
    seeds = {draw(ann)["settings"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_settings_of_an_image_draw_it_again(ann, draw):
    first = draw(ann, n=3, seed=5, steps=4)
    about = ann.get(f"/api/v1/images/{first['images'][2]['id']}/about").json()
    assert (about["settings"]["seed"], about["settings"]["n"]) == (7, 1)
    again = draw(ann, **about["settings"])
    assert (
        ann.get(f"/api/v1/images/{again['images'][0]['id']}/about").json()["sha256"]
        == about["sha256"]
    )


def test_dicom_is_drawn_from(ann, draw):
    pytest.importorskip("pydicom")
    made = draw(ann)["images"][0]["id"]
    content = ann.get(f"/api/v1/images/{made}?format=dicom").content
    image = {"data": base64.b64encode(content).decode()}
    for body in ({"kind": "image-to-image"}, {"kind": "inpaint", "ellipses": ["0.5,0.5,0.3,0.3"]}):
        assert draw(ann, **body, prompt="a lung", image=image)["state"] == "done"


def test_settings_of_an_inpainted_image_have_its_mask(house, ann, draw):
    image = {"id": draw(ann)["images"][0]["id"]}
    white = np.zeros((16, 16, 3), np.uint8)
    white[4:9, 2:12] = 210  # a mask is white from 128 on
    stream = io.BytesIO()
    Image.fromarray(white).save(stream, "PNG")
    mask = {"data": base64.b64encode(stream.getvalue()).decode()}
    job = draw(ann, kind="inpaint", prompt="a lung", image=image, mask=mask, feather=2)
    settings = ann.get(f"/api/v1/images/{job['images'][0]['id']}/about").json()["settings"]
    kept = base64.b64decode(settings["mask"]["data"])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(kept))), white[..., 0] > 0)
    again = draw(ann, **settings)
    assert again["settings"]["mask"] == settings["mask"]
    assert not list((house.folder / "uploads").glob("*"))


def test_a_mask_of_many_shades_of_black_and_white_is_not_kept(ann, draw):
    noise = np.random.default_rng(0).integers(0, 2, (600, 600), np.uint8) * 255
    picture, mask = io.BytesIO(), io.BytesIO()
    Image.new("L", (600, 600)).save(picture, "PNG")
    Image.fromarray(noise).save(mask, "PNG")
    given = {
        name: {"data": base64.b64encode(stream.getvalue()).decode()}
        for name, stream in (("image", picture), ("mask", mask))
    }
    job = draw(ann, kind="inpaint", prompt="a lung", **given)
    assert job["settings"]["mask"] == job["settings"]["image"] == {"id": None, "data": ""}


def test_frames_are_named_by_their_place(ann, draw):
    job = draw(ann, kind="interpolate", first="a lung", second="a heart", frames=3)
    titles = [
        ann.get(f"/api/v1/images/{image['id']}/about").json()["title"] for image in job["images"]
    ]
    assert titles == [f"a lung / a heart, frame {k} of 3" for k in (1, 2, 3)]
    one = draw(ann)["images"][0]["id"]
    assert ann.get(f"/api/v1/images/{one}/about").json()["title"] == "a lung"


def test_an_image_of_the_library_is_drawn_from(ann, draw):
    source = draw(ann)["images"][0]["id"]
    job = draw(ann, kind="image-to-image", prompt="a rib", image={"id": source})
    assert job["state"] == "done"
    assert job["settings"]["image"] == {"id": source, "data": None}


def test_a_library_of_the_first_version_is_brought_up_to_date(house, ann, draw):
    draw(ann)
    house.close()
    with contextlib.closing(sqlite3.connect(house.folder / "library.sqlite")) as old:
        old.execute("ALTER TABLE image DROP COLUMN kept")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    house.open()
    [image] = house.client().get("/api/v1/images").json()["images"]
    assert house.client().get(f"/api/v1/images/{image['id']}?format=dicom").status_code == 200


def test_search_by_words_label_and_pages(ann, draw):
    draw(ann, prompt="a 100% clear lung", n=2, label="clear")
    draw(ann, prompt="a rib", n=3)

    def found(**wanted):
        return ann.get("/api/v1/images", params=wanted).json()

    assert len(found(words="LUNG clear")["images"]) == 2
    assert len(found(words="100% lung")["images"]) == 2
    assert found(words="1%0")["images"] == []
    assert found(words="_")["images"] == []
    assert len(found(label="clear")["images"]) == 2
    assert found(model="other")["images"] == []
    assert found(words="' OR 1=1 --")["images"] == []
    page = found(limit=2)
    assert page["total"] == 5
    rest = found(limit=10, before=page["next"])
    assert len(rest["images"]) == 3
    assert rest["next"] is None
    assert ann.get("/api/v1/labels").json() == {"labels": [{"label": "clear", "images": 2}]}


def test_downloads(ann, draw):
    pytest.importorskip("pydicom")
    job = draw(ann, n=2, label="a label")
    ids = [image["id"] for image in job["images"]]
    for format, start in {"png": b"\x89PNG", "jpeg": b"\xff\xd8", "thumbnail": b"\x89PNG"}.items():
        answer = ann.get(f"/api/v1/images/{ids[0]}", params={"format": format})
        assert answer.content.startswith(start)
    raw = ann.get(f"/api/v1/images/{ids[0]}", params={"format": "raw"})
    assert raw.headers["x-image-size"] == "16x16"
    values = np.frombuffer(raw.content, "<u2").reshape(16, 16)
    assert values[0, 0] == job["settings"]["seed"] % 256 * 257
    dicom = ann.get(f"/api/v1/images/{ids[0]}", params={"format": "dicom"}).content
    assert read_provenance(dicom)["synthetic"] == "true"
    etag = ann.get(f"/api/v1/images/{ids[0]}").headers["etag"]
    assert ann.get(f"/api/v1/images/{ids[0]}", headers={"If-None-Match": etag}).status_code == 304
    content = ann.get("/api/v1/archive", params={"id": ids}).content
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert len(packed.namelist()) == 4
        rows = [json.loads(line) for line in packed.read("manifest.jsonl").splitlines()]
        assert [digest(packed.read(row["file"])) for row in rows] == [row["sha256"] for row in rows]
    about = ann.get(f"/api/v1/images/{ids[0]}/provenance").json()
    assert about["synthetic"] is True


def test_only_the_owner_cancels_and_deletes(house, ann, bob, draw, ended):
    image = draw(ann)["images"][0]["id"]
    id = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "slow", "n": 9}).json()["id"]
    assert bob.delete(f"/api/v1/jobs/{id}").status_code == 403
    assert bob.delete(f"/api/v1/images/{image}").status_code == 403
    assert ann.delete(f"/api/v1/jobs/{id}").status_code == 200
    ended(ann, id)
    assert ann.delete(f"/api/v1/images/{image}").status_code == 204
    assert ann.get(f"/api/v1/images/{image}").status_code == 404
    assert not house.service.library.image(image).exists()


def test_one_of_two_who_delete_at_once_is_told_that_it_is_gone(house, ann, draw, monkeypatch):
    image = draw(ann)["images"][0]["id"]
    made = house.service.made(image)
    assert ann.delete(f"/api/v1/images/{image}").status_code == 204
    monkeypatch.setattr(type(house.service), "made", lambda self, id: made)  # as it was before
    assert ann.delete(f"/api/v1/images/{image}").status_code == 404


def test_an_image_that_somebody_removed_by_hand_is_gone(house, ann, draw):
    image = draw(ann)["images"][0]["id"]
    house.service.library.image(image).unlink()
    assert ann.get(f"/api/v1/images/{image}").status_code == 404


def test_events_of_no_job_are_refused(ann):
    answer = ann.get(f"/api/v1/jobs/{'0' * 32}/events")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no such job")


def test_a_worker_that_dies_each_time_ends_the_job_and_not_the_server(house, ann, draw):
    job = draw(ann, prompt="die always")
    assert job["state"] == "failed"
    assert "ended each time" in job["error"]
    assert draw(ann, prompt="a lung")["state"] == "done"


def test_a_job_that_comes_while_the_worker_dies_is_kept(house, ann, draw, ended):
    conductor = house.service.conductor
    draw(ann)
    conductor._process.stdin.close()  # as after its death, before anybody has noticed
    id = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "a lung"}).json()["id"]
    conductor._process.kill()
    assert ended(ann, id)["state"] == "done"


def test_a_worker_that_cannot_start_is_told(house, ann):
    house.service.conductor.command = ("false",)
    while ann.get("/api/v1/health").json()["status"] != "ready":
        time.sleep(0.01)
    house.service.conductor._process.kill()
    until = time.time() + 20
    while ann.get("/api/v1/health").json()["status"] != "broken":
        assert time.time() < until
        time.sleep(0.05)
    assert "terminal" in ann.get("/api/v1/health").json()["problem"]


def test_a_full_disk_is_told_and_jobs_go_on_when_there_is_room(house, ann, ended):
    conductor, database = house.service.conductor, house.service.database
    write, full = database.add_image, [DiskFull("the disk of library.sqlite is full")]

    def add_image(made):
        if full:
            raise full[0]
        write(made)

    database.add_image = add_image
    id = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "a lung"}).json()["id"]
    until = time.time() + 20
    while "is full" not in ann.get("/api/v1/health").json()["problem"]:
        assert time.time() < until
        time.sleep(0.01)
    full.clear()
    assert ended(ann, id)["state"] == "done"
    assert conductor._thread.is_alive()
    assert ann.get("/api/v1/health").json()["problem"] == ""


def test_a_worker_that_the_system_cannot_start_is_told_and_tried_again(
    house, ann, ended, monkeypatch
):
    conductor, start, refused = house.service.conductor, subprocess.Popen, [1, 1]
    while conductor.status != "ready":
        time.sleep(0.01)

    def popen(*args, **more):
        if refused and refused.pop():
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return start(*args, **more)

    monkeypatch.setattr(subprocess, "Popen", popen)
    conductor._process.kill()
    until = time.time() + 20
    while "cannot be started" not in ann.get("/api/v1/health").json()["problem"]:
        assert time.time() < until
        time.sleep(0.01)
    id = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "a lung"}).json()["id"]
    assert ended(ann, id)["state"] == "done"
    assert ann.get("/api/v1/health").json()["problem"] == ""


def test_uploads_of_a_cancelled_job_go_with_a_worker_that_dies(house, ann, monkeypatch):
    conductor = house.service.conductor
    body = {"kind": "image-to-image", "prompt": "slow", "image": {"data": png()}, "n": 16}
    id = ann.post("/api/v1/jobs", json=body).json()["id"]
    while not ann.get(f"/api/v1/jobs/{id}").json()["images"]:
        pass
    monkeypatch.setattr(conductor, "_say", lambda message: None)  # it dies before it hears of it
    assert ann.delete(f"/api/v1/jobs/{id}").status_code == 200
    assert list((house.folder / "uploads").glob("*"))
    monkeypatch.undo()
    conductor._process.kill()
    until = time.time() + 20
    while list((house.folder / "uploads").glob("*")):
        assert time.time() < until
        time.sleep(0.01)


def test_a_model_that_could_not_be_loaded_at_first_is_no_problem_once_it_is(house, ann):
    conductor = house.service.conductor
    while conductor.status != "ready":
        time.sleep(0.01)
    conductor._hear({"at": "broken", "job": "", "error": "mini cannot be read"})
    assert ann.get("/api/v1/health").json()["problem"] == "mini cannot be read"
    loaded = {"at": "loaded", "job": "", "model_hash": "0", "seconds": 1}
    conductor._hear({**loaded, "model": "another"})
    assert ann.get("/api/v1/health").json()["status"] == "broken"
    conductor._hear({**loaded, "model": "mini"})
    assert ann.get("/api/v1/health").json()["problem"] == ""


def test_a_job_that_cannot_be_begun_for_want_of_room_waits(house, ann, ended, monkeypatch):
    conductor, database = house.service.conductor, house.service.database
    while conductor.status != "ready":
        time.sleep(0.01)
    begin, full = database.start_job, [DiskFull("the disk of library.sqlite is full")]
    monkeypatch.setattr(database, "start_job", lambda id: _raise(full) if full else begin(id))
    answer = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "a lung"})
    assert answer.status_code == 202, "it is in the queue"
    assert ended(ann, answer.json()["id"])["state"] == "done"


def _raise(once):
    raise once.pop()


def test_an_upload_without_room_is_told(house, ann, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    body = {"kind": "image-to-image", "prompt": "a lung", "image": {"data": png()}}
    answer = ann.post("/api/v1/jobs", json=body)
    assert (answer.status_code, "is full" in answer.json()["detail"]) == (507, True)
    assert not list((house.folder / "uploads").glob("*"))


def test_a_full_disk_is_told_without_its_place(house, ann, monkeypatch):
    def full(*_args):
        raise DiskFull(f"the disk of {house.folder / 'library.sqlite'} is full")

    monkeypatch.setattr(house.service.database, "add_job", full)
    answer = ann.post("/api/v1/jobs", json={"kind": "generate", "prompt": "a lung"})
    assert answer.status_code == 507
    assert answer.json()["detail"] == "the disk of the library/library.sqlite is full"
