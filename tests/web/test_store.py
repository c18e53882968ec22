"""Rows that were acknowledged stay; what is wrong with a file is one line."""

import sqlite3
import stat
import threading

import pytest

from vesalius.errors import VesaliusError
from vesalius.web.store import DiskFull, Store, create_store

SCHEMA = "CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT);"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.sqlite"
    create_store(path, 3, SCHEMA, lambda c: c.execute("INSERT INTO row (text) VALUES ('first')"))
    return path


def texts(store):
    return [row["text"] for row in store.read().execute("SELECT text FROM row ORDER BY id")]


def test_a_new_file_is_there_whole_or_not_at_all_and_for_its_owner_alone(path, tmp_path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ZeroDivisionError):
        create_store(tmp_path / "half.sqlite", 3, SCHEMA, lambda connection: 1 / 0)
    assert [each.name for each in tmp_path.iterdir()] == ["rows.sqlite"]


def test_threads_write_one_after_another(path):
    def add(name):
        for _ in range(20):
            with store.write() as connection:
                connection.execute("INSERT INTO row (text) VALUES (?)", (name,))

    with Store(path, 3) as store:
        threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(texts(store)) == sorted(["first", *("abcd" * 20)])


def test_connections_of_threads_that_ended_are_closed(path):
    opened = []
    with Store(path, 3) as store:
        for _ in range(5):
            thread = threading.Thread(target=lambda: opened.append(store.read()))
            thread.start()
            thread.join()
        assert texts(store) == ["first"]
        for connection in opened:
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                connection.execute("SELECT 1")


def test_a_failed_transaction_leaves_nothing(path):
    with Store(path, 3) as store:
        with pytest.raises(ZeroDivisionError), store.write() as connection:
            connection.execute("INSERT INTO row (text) VALUES ('half')")
            _ = 1 / 0
        with store.write() as connection:
            connection.execute("INSERT INTO row (text) VALUES ('second')")
        assert texts(store) == ["first", "second"]


def test_reading_connections_refuse_to_write(path):
    with Store(path, 3) as store, pytest.raises(sqlite3.OperationalError):
        store.read().execute("DELETE FROM row")


def test_a_full_disk_is_one_line_and_loses_nothing(path):
    with Store(path, 3) as store:
        with store.write() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(DiskFull, match="is full: nothing"), store.write() as connection:
            for _ in range(100):
                connection.execute("INSERT INTO row (text) VALUES (?)", ("x" * 1000,))
        assert texts(store) == ["first"]
        store._writer.execute("PRAGMA max_page_count = 100000")
        with store.write() as connection:
            connection.execute("INSERT INTO row (text) VALUES ('second')")
        assert texts(store) == ["first", "second"]


def test_other_files_are_refused_in_one_line(path, tmp_path):
    with pytest.raises(VesaliusError, match="version 3 of its format, and this vesalius reads 4"):
        Store(path, 4)
    with pytest.raises(VesaliusError, match="is missing"):
        Store(tmp_path / "none.sqlite", 3)
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "text.sqlite").write_text("no database at all" * 100)
    with pytest.raises(VesaliusError, match="damaged or no database"):
        Store(tmp_path / "text.sqlite", 3)
