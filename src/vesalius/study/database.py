"""`study.sqlite`: readers, items, trials, answers and events. No row tells the arm of an image.

Answers and events are only ever added: triggers refuse to change or delete them. An answer that is taken
back is a row with an empty value. Of each trial the last row counts.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from vesalius.errors import VesaliusError
from vesalius.study.layout import Layout
from vesalius.web.store import Store, create_store

VERSION = 1
WITHDRAWN = ""  # the value of an answer that was taken back
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE reader (
    id TEXT PRIMARY KEY, token_hash TEXT, session_hash TEXT, specialty TEXT NOT NULL DEFAULT '',
    profile TEXT NOT NULL DEFAULT '{}', consent_hash TEXT,
    consented_at REAL, started_at REAL, finished_at REAL);
CREATE UNIQUE INDEX reader_token ON reader (token_hash);
CREATE UNIQUE INDEX reader_session ON reader (session_hash);
CREATE TABLE item (
    id TEXT PRIMARY KEY, png_sha256 TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    prompt TEXT NOT NULL DEFAULT '');
CREATE TABLE trial (
    id INTEGER PRIMARY KEY, reader TEXT NOT NULL REFERENCES reader (id), position INTEGER NOT NULL,
    task TEXT NOT NULL, phase TEXT NOT NULL, items TEXT NOT NULL, token TEXT NOT NULL UNIQUE,
    feedback TEXT NOT NULL DEFAULT '', UNIQUE (reader, position));
CREATE TABLE answer (
    id INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trial (id), seq INTEGER NOT NULL,
    client_uuid TEXT NOT NULL UNIQUE, value TEXT NOT NULL, confidence INTEGER,
    details TEXT NOT NULL DEFAULT '', shown_at REAL, submitted_at REAL, received_at REAL NOT NULL,
    visible_ms INTEGER, tools TEXT NOT NULL DEFAULT '{}', replaces INTEGER REFERENCES answer (id),
    UNIQUE (trial, seq));
CREATE TABLE event (
    id INTEGER PRIMARY KEY, reader TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
    details TEXT NOT NULL DEFAULT '');
CREATE INDEX event_reader ON event (reader, id);
""" + "".join(
    f"CREATE TRIGGER {table}_{what.lower()} BEFORE {what} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, '{table} rows are only added'); END;\n"
    for table in ("answer", "event")
    for what in ("UPDATE", "DELETE")
)


@dataclass(frozen=True)
class Reader:
    """One reader. `profile` is what they said of themselves and of their display, by question.

    `specialty` is the protocol's, or the reader's own word where the protocol leaves it open.
    """

    id: str
    token_hash: str | None = None
    session_hash: str | None = None
    specialty: str = ""
    profile: Mapping[str, Any] = field(default_factory=dict)
    consent_hash: str | None = None
    consented_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None


@dataclass(frozen=True)
class Item:
    """One image: `id` is the name of its file without `.png`."""

    id: str
    png_sha256: str
    width: int
    height: int
    prompt: str = ""


@dataclass(frozen=True)
class Trial:
    """One question to one reader. `items` are one image, or two for a pair: left, right.

    `feedback` is the right answer, in training only, shown once the reader has answered.
    """

    id: int
    reader: str
    position: int
    task: str
    phase: str
    items: tuple[str, ...]
    token: str
    feedback: str = ""


@dataclass(frozen=True)
class Given:
    """What a browser sends. Times are seconds since 1970 by the server's clock, None where unknown.

    `visible_ms` is how long the images were to be seen; `details` are, for `alignment`, the indexes of
    the wrong words as JSON; `tools` says what was done with the viewer.
    """

    client_uuid: str
    value: str
    confidence: int | None = None
    details: str = ""
    shown_at: float | None = None
    submitted_at: float | None = None
    visible_ms: int | None = None
    tools: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One row of `answer`: the `seq`-th of its trial, from 1; `replaces` is the id of the one before."""

    id: int
    trial: int
    seq: int
    client_uuid: str
    value: str
    confidence: int | None
    details: str
    shown_at: float | None
    submitted_at: float | None
    received_at: float
    visible_ms: int | None
    tools: Mapping[str, Any]
    replaces: int | None


@dataclass(frozen=True)
class Event:
    """Something that happened, such as `consent`, `break`, `undo` or `clock`."""

    id: int
    reader: str
    at: float
    kind: str
    details: str


class Closed(VesaliusError):
    """The trial has an answer already, from another window or browser."""


Row = TypeVar("Row", Reader, Item, Trial, Answer, Event)


def open_database(layout: Layout) -> "Database":
    """The database of a study. Raises VesaliusError where there is none, as before the lock."""
    if not layout.database.is_file():
        raise VesaliusError(f"{layout.folder} is not locked: run `vesalius study lock` first")
    return Database(layout.database)


def check_not_begun(layout: Layout) -> None:
    """Raise VesaliusError where readers have links or have answered, though the lock is missing."""
    if not layout.database.is_file():
        return
    with Database(layout.database) as database:
        begun = any(reader.token_hash for reader in database.readers()) or any(database.answers())
    if begun:
        raise VesaliusError(
            f"readers of {layout.folder} have links or answers, and {layout.lock.name} is missing: "
            "restore it from a copy"
        )


def create(
    path: Path,
    items: Iterable[Item],
    trials: Iterable[Trial],
    readers: Iterable[Reader],
    meta: Mapping[str, str],
) -> None:
    """Write a new database at `path`, complete or not at all; `meta` must contain `study`, its id."""

    def fill(connection: sqlite3.Connection) -> None:
        for kind, rows in ((Reader, readers), (Item, items), (Trial, trials)):
            names = [f.name for f in fields(kind)]
            marks = ", ".join("?" * len(names))
            connection.executemany(
                f"INSERT INTO {kind.__name__.lower()} ({', '.join(names)}) VALUES ({marks})",
                (tuple(_stored(value) for value in asdict(row).values()) for row in rows),
            )
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())

    create_store(path, VERSION, SCHEMA, fill)


class Database:
    """The rows of a study, typed. Any number of threads may use one."""

    def __init__(self, path: Path | str) -> None:
        self._store = Store(Path(path), VERSION)

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def meta(self, key: str) -> str | None:
        """A fact of the study: `study` (its id), `locked` (hash of the locked protocol)."""
        row = self._store.read().execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row and row["value"]

    def readers(self) -> list[Reader]:
        """All readers, in the protocol's order."""
        return list(self._rows(Reader, "ORDER BY rowid"))

    def reader(self, **by: str) -> Reader | None:
        """The reader with this `id`, `token_hash` or `session_hash`."""
        ((column, value),) = by.items()
        assert column in ("id", "token_hash", "session_hash")
        return next(self._rows(Reader, f"WHERE {column} = ?", value), None)

    def update_reader(self, reader: str, **changes: Any) -> None:
        """Set columns of one reader. Raises VesaliusError where there is no such reader."""
        columns = {f.name for f in fields(Reader)} - {"id"}
        assert changes.keys() <= columns
        marks = ", ".join(f"{name} = ?" for name in changes)
        values = [_stored(value) for value in changes.values()]
        with self._store.write() as connection:
            done = connection.execute(
                f"UPDATE reader SET {marks} WHERE id = ?", (*values, reader)
            ).rowcount
        if not done:
            raise VesaliusError(f"the study has no reader {reader}")

    def items(self) -> Iterator[Item]:
        """All images, by name."""
        return self._rows(Item, "ORDER BY id")

    def trials(self, reader: str | None = None) -> Iterator[Trial]:
        """All trials, or one reader's, in the order in which they are shown."""
        if reader is None:
            return self._rows(Trial, "ORDER BY reader, position")
        return self._rows(Trial, "WHERE reader = ? ORDER BY position", reader)

    def answers(self, reader: str | None = None) -> Iterator[Answer]:
        """Every row ever given, taken back and replaced ones too, in the order of arrival."""
        if reader is None:
            return self._rows(Answer, "ORDER BY id")
        mine = "WHERE trial IN (SELECT id FROM trial WHERE reader = ?) ORDER BY id"
        return self._rows(Answer, mine, reader)

    def counted(self, reader: str | None = None) -> dict[int, Answer]:
        """The answer that counts of each answered trial, by the trial's id."""
        last = {answer.trial: answer for answer in self.answers(reader)}
        return {trial: answer for trial, answer in last.items() if answer.value != WITHDRAWN}

    def arrivals(self, reader: str) -> dict[int, float]:
        """When the answer that counts of each of a reader's trials arrived, by the trial's id."""
        rows = self._store.read().execute(
            "SELECT answer.trial, value, received_at FROM answer JOIN trial ON trial.id = answer.trial "
            "WHERE trial.reader = ? ORDER BY answer.id",
            (reader,),
        )
        last = {row["trial"]: row for row in rows}
        return {t: row["received_at"] for t, row in last.items() if row["value"] != WITHDRAWN}

    def last_event(self, reader: str, kind: str) -> float | None:
        """When something happened last to a reader; None where it never has."""
        sql = "SELECT max(at) AS at FROM event WHERE reader = ? AND kind = ?"
        return self._store.read().execute(sql, (reader, kind)).fetchone()["at"]

    def events(self, reader: str | None = None) -> Iterator[Event]:
        """All events, or one reader's, in the order of arrival."""
        if reader is None:
            return self._rows(Event, "ORDER BY id")
        return self._rows(Event, "WHERE reader = ? ORDER BY id", reader)

    def add_event(self, reader: str, kind: str, details: str = "", at: float | None = None) -> None:
        """Add what happened to a reader; `reader` is empty for what the administrator did."""
        row = (reader, time.time() if at is None else at, kind, details)
        with self._store.write() as connection:
            connection.execute(
                "INSERT INTO event (reader, at, kind, details) VALUES (?, ?, ?, ?)", row
            )

    def record_answer(
        self, trial: Trial, given: Given, *, received_at: float | None = None
    ) -> tuple[Answer, bool]:
        """Add an answer; return its row, and whether it is new. The same `client_uuid` is one row.

        Raises Closed for a second answer to a trial whose first was not taken back before, and for a
        withdrawal of nothing.
        """
        with self._store.write() as connection:
            if row := connection.execute(
                "SELECT * FROM answer WHERE client_uuid = ?", (given.client_uuid,)
            ).fetchone():
                if row["trial"] != trial.id:
                    raise Closed("an answer's id was used for another trial")
                return _typed(Answer, row), False
            before = connection.execute(
                "SELECT * FROM answer WHERE trial = ? ORDER BY seq DESC LIMIT 1", (trial.id,)
            ).fetchone()
            answered = before is not None and before["value"] != WITHDRAWN
            if answered == (given.value != WITHDRAWN):
                raise Closed("this image was answered in another window")
            values = {name: _stored(value) for name, value in vars(given).items()} | {
                "trial": trial.id,
                "seq": before["seq"] + 1 if before else 1,
                "received_at": time.time() if received_at is None else received_at,
                "replaces": before["id"] if before else None,
            }
            marks = ", ".join(f":{name}" for name in values)
            sql = f"INSERT INTO answer ({', '.join(values)}) VALUES ({marks}) RETURNING *"
            return _typed(Answer, connection.execute(sql, values).fetchone()), True

    def _rows(self, kind: type[Row], rest: str, *values: str) -> Iterator[Row]:
        sql = f"SELECT * FROM {kind.__name__.lower()} {rest}"
        for row in self._store.read().execute(sql, values).fetchall():
            yield _typed(kind, row)


def _stored(value: Any) -> Any:
    """A field as its column: names joined by commas, mappings as JSON."""
    if isinstance(value, tuple | list):
        return ",".join(value)
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False)
    return value


def _typed(kind: type[Row], row: sqlite3.Row) -> Row:
    values: dict[str, Any] = dict(row)
    if "items" in values:
        values["items"] = tuple(values["items"].split(","))
    for name in {"profile", "tools"} & values.keys():
        values[name] = json.loads(values[name])
    return kind(**values)
