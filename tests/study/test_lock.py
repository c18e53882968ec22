"""After the lock nothing changes unseen, and before it there is no answer."""

import json
import os
import shutil
import sqlite3
import stat

import pytest
from PIL import Image
from tests.study.phantoms import write_pairs, write_set

from vesalius.errors import VesaliusError
from vesalius.study.build import build
from vesalius.study.check import check
from vesalius.study.database import Database
from vesalius.study.key import KeyTrial, read_items, read_trials, write_key
from vesalius.study.layout import Layout
from vesalius.study.lock import lock, verify
from vesalius.study.power import power
from vesalius.study.settings import (
    BuildSettings,
    CheckSettings,
    DesignSettings,
    LockSettings,
    PowerSettings,
)

QUICK = CheckSettings(repetitions=1, exchanges=100, replicates=200)
TASKS = ("turing", "pair", "quality", "alignment", "diagnosis")


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A study that can be locked."""
    folder = tmp_path_factory.mktemp("lock")
    pairs, made = write_pairs(folder / "pairs.parquet", 90), write_set(folder / "set", 60)
    asked = BuildSettings(
        DesignSettings(tasks=TASKS, trials=40, fakes=2, readers="Ann:chest,Bob", unaware_first=True)
    )
    study = build(pairs, {"mine": made}, folder / "study", asked).folder
    assert check(study, QUICK).reasons == []
    return study


@pytest.fixture
def study(checked, tmp_path):
    shutil.copytree(checked, tmp_path / "study")
    return Layout(tmp_path / "study")


@pytest.fixture
def locked(study):
    lock(study.folder)
    return study


def test_a_lock_holds_everything_and_the_database_no_arm(study):
    said = []
    made = lock(study.folder, on_warning=said.append)
    assert "nobody looked at what so many readers" in said[0]
    document = json.loads(study.lock.read_text())
    assert document["margins"] == dict.fromkeys(TASKS, 0.1)
    assert document["images"].keys() == {path.stem for path in study.images.iterdir()}
    assert "excluded" in document and document["version"] and document["check"]["synthetic"]
    assert document["despite"] == {"reasons": [], "reason": None}
    with Database(study.database) as database:
        assert [(r.id, r.specialty) for r in database.readers()] == [("Ann", "chest"), ("Bob", "")]
        assert (database.meta("study"), database.meta("locked")) == (made.study, made.hash)
        assert list(database.answers()) == []
        trials = list(database.trials())
        feedback = {(t.task, t.feedback) for t in trials if t.feedback}
        items = list(database.items())
    assert {t.phase for t in trials if t.feedback} == {"training"}
    assert {task for task, _ in feedback} == {"turing", "pair", "diagnosis"}
    assert len({t.token for t in trials}) == len(trials) == len(read_trials(study.key_trials))
    content = study.database.read_bytes()
    for item in read_items(study.key):
        assert item.sha1.encode() not in content
        assert item.source.encode() not in content
    assert {i.prompt for i in items} >= {"", "chest X-ray, normal"}
    assert b"reconstructed" not in content and b"mine" not in content
    assert verify(study, key=True).hash == verify(study, key=False).hash == made.hash


def test_the_page_to_hand_in(locked):
    page = locked.preregistration.read_text()
    parts = ("Question", "Images", "Left out", "Design", "Tasks", "Analysis", "Blinding", "Power")
    assert all(f"\n## {part}\n" in page for part in parts)
    for text in (
        "2 readers (chest)",
        "within 0.1 of .5",
        "at least 80 % of the gross fakes",
        "these readers only",
        "before readers are told",
        "AUC of 0.",
        "It was not looked at before the lock.",
        verify(locked, key=False).hash,
    ):
        assert text in page, text


def test_power_that_was_looked_at_is_no_warning(study):
    study.power.write_text('{"sentences": ["Two readers show nothing."]}')
    said = []
    lock(study.folder, on_warning=said.append)
    assert said == []
    assert "Two readers show nothing." in study.preregistration.read_text()


def test_what_the_study_can_show_is_handed_in(study):
    found = power(study.folder, PowerSettings(readers=(3,), simulations=20))
    lock(study.folder)
    page = study.preregistration.read_text()
    assert found.sentences
    assert all(sentence in page for sentence in found.sentences)


def drop_an_image(layout):
    next(layout.images.iterdir()).unlink()


def add_an_image(layout):
    shutil.copy(next(layout.images.iterdir()), layout.images / f"{'0' * 32}.png")


def change_an_image(layout):
    path = next(layout.images.iterdir())
    with Image.open(path) as image:
        image.putpixel((0, 0), 255 - image.getpixel((0, 0)))
        image.save(path, compress_level=0)


def change_a_margin(layout):
    layout.protocol.write_text(layout.protocol.read_text().replace("margin: 0.1", "margin: 0.2"))


def change_the_lock(layout):
    layout.lock.write_text(layout.lock.read_text().replace('"turing": 0.1', '"turing": 0.3'))


def change_the_key(layout):
    trials = read_trials(layout.key_trials)
    write_key(layout.key_trials, trials[::-1], KeyTrial)


def change_a_trial(layout):
    with sqlite3.connect(layout.database) as connection:
        connection.execute("UPDATE trial SET feedback = 'left' WHERE id = 90")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_an_image, "1 images, such as"),
        (add_an_image, "1 images, such as 0000"),
        (change_an_image, "1 images, such as"),
        (change_a_margin, r"protocol\.yaml"),
        (change_the_lock, r"protocol\.lock\.json"),
        (change_the_key, r"key-trials\.parquet"),
        (change_a_trial, r"the trials in study\.sqlite"),
        (lambda layout: layout.check.unlink(), r"check\.json"),
    ],
)
def test_a_change_after_the_lock_is_found_in_one_line(locked, change, message):
    change(locked)
    with pytest.raises(VesaliusError, match=f"changed after it was locked: {message}") as found:
        verify(locked, key=True)
    assert "\n" not in str(found.value)


def test_the_server_s_look_never_opens_the_key(locked, monkeypatch):
    for path in (locked.key, locked.key_trials):
        path.unlink()
    verify(locked, key=False)
    with pytest.raises(VesaliusError, match=r"key\.parquet"):
        verify(locked, key=True)


def test_a_locked_study_stays(locked):
    with pytest.raises(VesaliusError, match="is locked already, since 20"):
        lock(locked.folder)
    with pytest.raises(VesaliusError, match="is locked"):
        check(locked.folder, QUICK)
    with pytest.raises(VesaliusError, match="is a locked study, which stays"):
        build("pairs", {"a": "b"}, locked.folder, BuildSettings(overwrite=True))


def test_answers_outlive_a_lost_lock(locked):
    with Database(locked.database) as database:
        database.update_reader("Ann", token_hash="0")
    locked.lock.unlink()
    for step in (lock, lambda folder: check(folder, QUICK)):
        with pytest.raises(VesaliusError, match=r"protocol\.lock\.json is missing: restore it"):
            step(locked.folder)
    with Database(locked.database) as database:
        assert database.reader(id="Ann").token_hash == "0"


def test_texts_and_margins_may_be_edited_before_the_lock_and_no_more(study):
    text = study.protocol.read_text()
    study.protocol.write_text(text.replace("margin: 0.1", "margin: 0.05").replace("trials: 50", "trials: 40"))  # fmt: skip
    lock(study.folder)
    assert json.loads(study.lock.read_text())["margins"]["turing"] == 0.05


def test_another_design_must_be_built(study):
    study.protocol.write_text(study.protocol.read_text().replace("trials: 40", "trials: 60"))
    with pytest.raises(VesaliusError, match="asks for other tasks than the study was built with"):
        lock(study.folder)
    assert not study.lock.exists() and not study.database.exists()


def test_a_study_is_checked_as_it_is(study):
    study.check.unlink()
    with pytest.raises(VesaliusError, match="whether a machine can tell the arms is not known"):
        lock(study.folder)
    check(study.folder, QUICK)
    change_an_image(study)
    with pytest.raises(VesaliusError, match="have changed since they were checked"):
        lock(study.folder)


def test_arms_that_a_machine_tells_are_locked_for_a_reason_only(study):
    for item in read_items(study.key):
        if item.arm == "synthetic":
            os.utime(study.image(item.item))
    check(study.folder, QUICK)
    with pytest.raises(
        VesaliusError,
        match=r"a machine can tell the arms.*time of the file.*--crop-borders.*--size.*--despite",
    ):
        lock(study.folder)
    with pytest.raises(VesaliusError, match="reason in words"):
        LockSettings(despite="yes")
    lock(study.folder, LockSettings(despite="a rehearsal with students"))
    assert json.loads(study.lock.read_text())["despite"]["reason"] == "a rehearsal with students"
    page = study.preregistration.read_text()
    assert "Locked all the same, because: a rehearsal with students" in page


def test_nothing_is_left_of_a_lock_that_failed(study, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vesalius.study.lock.preregistration", full)
    with pytest.raises(OSError):
        lock(study.folder)
    assert not study.lock.exists()
    monkeypatch.undo()
    lock(study.folder)
    verify(study, key=True)
    assert stat.S_IMODE(study.key.stat().st_mode) == 0o600


def test_the_commands(run_cli, study):
    code, out, err = run_cli("study", "check", study.folder, "--exchanges", 100)
    assert (code, err) == (0, "")
    assert "files apart with an AUC of 0." in out
    code, out, err = run_cli("study", "lock", study.folder)
    assert code == 0
    assert "is locked: study" in out
    assert err.startswith("warning: nobody looked at")
    code, out, err = run_cli("study", "lock", study.folder)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert run_cli("study", "check", "nowhere")[0] == 2
