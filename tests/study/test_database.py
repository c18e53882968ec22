"""The rows of a study: nothing is lost, nothing counts twice, nothing is changed afterwards."""

import sqlite3
import threading

import pytest

from vesalius.errors import VesaliusError
from vesalius.study.database import Closed, Database, Given, Item, Reader, Trial, create

ITEMS = [Item(f"{k:032x}", "0" * 64, 64, 48, "a chest x-ray") for k in range(3)]
TRIALS = [
    Trial(1, "R1", 0, "turing", "training", (ITEMS[0].id,), "t1", "real"),
    Trial(2, "R1", 1, "pair", "reading", (ITEMS[1].id, ITEMS[2].id), "t2"),
    Trial(3, "R2", 0, "pair", "reading", (ITEMS[2].id, ITEMS[1].id), "t3"),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "study.sqlite"
    create(path, ITEMS, TRIALS, [Reader("R1"), Reader("R2", specialty="radiology")], {"study": "s"})
    return path


@pytest.fixture
def database(path):
    with Database(path) as database:
        yield database


def test_rows_come_back_typed(database):
    assert list(database.items()) == ITEMS
    assert list(database.trials()) == TRIALS
    assert list(database.trials("R2")) == TRIALS[2:]
    assert [reader.id for reader in database.readers()] == ["R1", "R2"]
    database.update_reader("R1", profile={"years": 7}, token_hash="abc")
    assert database.reader(token_hash="abc").profile == {"years": 7}
    assert database.reader(id="R3") is None
    with pytest.raises(VesaliusError, match="no reader R9"):
        database.update_reader("R9", started_at=1.0)
    assert (database.meta("study"), database.meta("locked")) == ("s", None)
    database.add_event("R1", "break", "50", at=5.0)
    assert database.last_event("R1", "break") == 5.0
    assert database.last_event("R1", "undo") is None
    assert [(e.kind, e.at) for e in database.events("R1")] == [("break", 5.0)]


def test_an_answer_sent_twice_is_one(database):
    first, new = database.record_answer(TRIALS[1], Given("u1", "left", tools={"zoomed": 2}))
    again, newer = database.record_answer(TRIALS[1], Given("u1", "left"))
    assert (first, new, newer) == (again, True, False)
    assert first.tools == {"zoomed": 2}
    with pytest.raises(VesaliusError, match="used for another trial"):
        database.record_answer(TRIALS[2], Given("u1", "left"))


def test_a_second_answer_needs_the_first_taken_back(database):
    database.record_answer(TRIALS[1], Given("u1", "left"))
    with pytest.raises(Closed):
        database.record_answer(TRIALS[1], Given("u2", "right"))
    database.record_answer(TRIALS[1], Given("u3", ""))
    assert database.counted() == {}
    with pytest.raises(Closed):
        database.record_answer(TRIALS[1], Given("u4", ""))
    last, _ = database.record_answer(TRIALS[1], Given("u5", "right"))
    assert [a.value for a in database.answers("R1")] == ["left", "", "right"]
    assert (last.seq, last.replaces, database.counted("R1")) == (3, last.id - 1, {2: last})
    assert database.counted("R2") == {}
    assert database.arrivals("R1") == {2: last.received_at}
    assert database.arrivals("R2") == {}


@pytest.mark.parametrize("table", ["answer", "event"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET id = id + 10"])
def test_answers_and_events_are_only_added(path, database, table, change):
    database.record_answer(TRIALS[0], Given("u1", "real", confidence=3))
    database.add_event("R1", "undo")
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="added"):
        connection.execute(change.format(table))


def test_two_windows_at_once_give_one_answer(database):
    closed = []

    def answer(name):
        try:
            database.record_answer(TRIALS[1], Given(name, "left"))
        except Closed:
            closed.append(name)

    threads = [threading.Thread(target=answer, args=(f"u{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(closed), len(list(database.answers()))) == (7, 1)


def test_a_database_of_another_version_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(VesaliusError, match="has version 2 of its format"):
        Database(path)
