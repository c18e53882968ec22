"""Jobs, images and sessions: one SQLite file beside the folder of the images themselves.

Whatever a client was told stands here before the answer left, so that a kill loses nothing of it.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vesalius.web.store import Store, create_store, upgrade_store

FILE = "library.sqlite"
VERSION = 2
ENDED = ("done", "failed", "cancelled")
State = Literal["queued", "running", "done", "failed", "cancelled"]

_SCHEMA = """
CREATE TABLE job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,          -- JSON, its seed drawn
    images TEXT NOT NULL,        -- JSON list of ids, one for each image to draw
    state TEXT NOT NULL,
    idempotency_key TEXT,
    asked TEXT NOT NULL,         -- hash of the body as it was sent
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    deaths INTEGER NOT NULL DEFAULT 0,  -- of the worker since the last image
    error TEXT NOT NULL DEFAULT '',
    warnings TEXT NOT NULL DEFAULT '[]',
    UNIQUE (owner, idempotency_key)
);
CREATE INDEX job_state ON job (state, seq);
CREATE TABLE image (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    owner TEXT NOT NULL,
    prompt TEXT NOT NULL,
    label TEXT NOT NULL,
    model TEXT NOT NULL,
    seed INTEGER NOT NULL,
    body TEXT NOT NULL,          -- JSON: draws it again
    provenance TEXT NOT NULL,    -- JSON, as inside the file
    window TEXT NOT NULL,        -- JSON: which values of a deep image are shown, or null
    sha256 TEXT NOT NULL,
    created REAL NOT NULL,
    kept TEXT NOT NULL DEFAULT 'null',  -- JSON: what its DICOM file has of that painted into
    UNIQUE (job, number)
);
CREATE INDEX image_job ON image (job);
CREATE TABLE session (
    hash TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL
);
"""
_FROM_1 = "ALTER TABLE image ADD COLUMN kept TEXT NOT NULL DEFAULT 'null'"


@dataclass(frozen=True)
class Job:
    """A row of `job`."""

    seq: int
    id: str
    owner: str
    kind: str
    body: dict[str, Any]
    images: list[str]
    state: State
    asked: str
    created: float
    started: float | None
    ended: float | None
    deaths: int
    error: str
    warnings: list[str]

    @property
    def is_over(self) -> bool:
        """Whether nothing of it will change."""
        return self.state in ENDED


@dataclass(frozen=True)
class NewJob:
    """What is known of a job when it is accepted."""

    id: str
    owner: str
    body: dict[str, Any]
    images: list[str]
    asked: str
    key: str | None = None


@dataclass(frozen=True)
class Made:
    """A row of `image`."""

    seq: int
    id: str
    job: str
    number: int
    owner: str
    prompt: str
    label: str
    model: str
    seed: int
    body: dict[str, Any]
    provenance: dict[str, Any]
    window: tuple[float, float] | None
    sha256: str
    created: float
    kept: dict[str, Any] | None = None  # `images.dicom_kept.Kept` as JSON


@dataclass(frozen=True)
class Search:
    """Which images are wanted; what is empty leaves all."""

    words: str = ""
    label: str = ""
    model: str = ""
    job: str = ""
    owner: str = ""
    before: int | None = None  # seq
    limit: int = 60


def _job(row: sqlite3.Row) -> Job:
    facts = {name: row[name] for name in row.keys() if name != "idempotency_key"}  # noqa: SIM118
    for name in ("body", "images", "warnings"):
        facts[name] = json.loads(facts[name])
    return Job(**facts)


def _made(row: sqlite3.Row) -> Made:
    facts = dict(row)
    for name in ("body", "provenance", "window", "kept"):
        facts[name] = json.loads(facts[name])
    facts["window"] = facts["window"] and tuple(facts["window"])
    return Made(**facts)


def open_database(folder: Path) -> "Database":
    """The database of a library, made where there is none, brought up to date where it is older.

    Raises VesaliusError for one of another version.
    """
    path = folder / FILE
    if not path.exists():
        create_store(path, VERSION, _SCHEMA, lambda connection: None)
    else:
        upgrade_store(path, 1, VERSION, _FROM_1)
    return Database(Store(path, VERSION))


class Database:
    """The rows, each change one transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add_job(self, new: NewJob, most: int) -> Job | None:
        """The job as it was accepted, or as it was when its key was first used; None where the queue is full."""
        with self.store.write() as db:
            if new.key is not None:
                found = db.execute(
                    "SELECT * FROM job WHERE owner = ? AND idempotency_key = ?",
                    (new.owner, new.key),
                ).fetchone()
                if found:
                    return _job(found)
            waiting = db.execute(
                "SELECT count(*) FROM job WHERE state IN ('queued', 'running')"
            ).fetchone()[0]
            if waiting >= most:
                return None
            db.execute(
                "INSERT INTO job (id, owner, kind, body, images, state, idempotency_key, asked, created)"
                " VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
                (
                    *(new.id, new.owner, new.body["kind"], json.dumps(new.body)),
                    *(json.dumps(new.images), new.key, new.asked, time.time()),
                ),
            )
            return _job(db.execute("SELECT * FROM job WHERE id = ?", (new.id,)).fetchone())

    def job(self, id: str) -> Job | None:
        """One job."""
        row = self.store.read().execute("SELECT * FROM job WHERE id = ?", (id,)).fetchone()
        return _job(row) if row else None

    def jobs(self, states: Sequence[str] = (), limit: int = 100) -> list[Job]:
        """The latest jobs, the newest first."""
        marks = ",".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        query = f"SELECT * FROM job {where} ORDER BY seq DESC LIMIT ?"
        return [_job(row) for row in self.store.read().execute(query, (*states, limit))]

    def next_job(self) -> Job | None:
        """The job whose turn it is."""
        query = "SELECT * FROM job WHERE state = 'queued' ORDER BY seq LIMIT 1"
        row = self.store.read().execute(query).fetchone()
        return _job(row) if row else None

    def waiting(self) -> list[Job]:
        """The queue in its order, running jobs first."""
        query = (
            "SELECT * FROM job WHERE state IN ('running', 'queued') ORDER BY state = 'queued', seq"
        )
        return [_job(row) for row in self.store.read().execute(query)]

    def start_job(self, id: str) -> bool:
        """Mark a job as running, unless it has been cancelled meanwhile."""
        with self.store.write() as db:
            changed = db.execute(
                "UPDATE job SET state = 'running', started = ifnull(started, ?)"
                " WHERE id = ? AND state = 'queued'",
                (time.time(), id),
            )
            return changed.rowcount == 1

    def warn_job(self, id: str, warnings: Iterable[str]) -> None:
        """Keep what the model has to say of a job's prompts."""
        with self.store.write() as db:
            text = json.dumps(list(warnings))
            db.execute("UPDATE job SET warnings = ? WHERE id = ?", (text, id))

    def end_job(self, id: str, state: State, error: str = "") -> bool:
        """End a job that has not ended yet."""
        with self.store.write() as db:
            changed = db.execute(
                "UPDATE job SET state = ?, error = ?, ended = ?"
                " WHERE id = ? AND state IN ('queued', 'running')",
                (state, error, time.time(), id),
            )
            return changed.rowcount == 1

    def requeue(self, died: bool) -> None:
        """Put what was running back to where it was in the queue; `died` counts against it."""
        with self.store.write() as db:
            db.execute(
                "UPDATE job SET state = 'queued', deaths = deaths + ? WHERE state = 'running'",
                (int(died),),
            )

    def add_image(self, image: Made) -> None:
        """A finished image; one that is there already stays as it is."""
        with self.store.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO image (id, job, number, owner, prompt, label, model, seed, body,"
                " provenance, window, sha256, created, kept) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    *(image.id, image.job, image.number, image.owner, image.prompt, image.label),
                    *(image.model, image.seed, json.dumps(image.body)),
                    *(json.dumps(image.provenance), json.dumps(image.window)),
                    *(image.sha256, image.created, json.dumps(image.kept)),
                ),
            )
            db.execute("UPDATE job SET deaths = 0 WHERE id = ?", (image.job,))

    def image(self, id: str) -> Made | None:
        """One image."""
        row = self.store.read().execute("SELECT * FROM image WHERE id = ?", (id,)).fetchone()
        return _made(row) if row else None

    def images_of(self, job: str) -> list[Made]:
        """What a job has made so far, in its order."""
        query = "SELECT * FROM image WHERE job = ? ORDER BY number"
        return [_made(row) for row in self.store.read().execute(query, (job,))]

    def count_images(self) -> int:
        """All there are."""
        return self.store.read().execute("SELECT count(*) FROM image").fetchone()[0]

    def search(self, wanted: Search) -> list[Made]:
        """Images whose prompt or label has every word, the newest first."""
        where, values = ["1"], list[Any]()
        for word in wanted.words.split():
            where.append("(prompt LIKE ? ESCAPE '!' OR label LIKE ? ESCAPE '!')")
            pattern = "%" + "".join(f"!{c}" if c in "!%_" else c for c in word) + "%"
            values += [pattern, pattern]
        for name in ("label", "model", "job", "owner"):
            if value := getattr(wanted, name):
                where.append(f"{name} = ?")
                values.append(value)
        if wanted.before is not None:
            where.append("seq < ?")
            values.append(wanted.before)
        query = f"SELECT * FROM image WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?"
        rows = self.store.read().execute(query, (*values, wanted.limit))
        return [_made(row) for row in rows]

    def labels(self) -> dict[str, int]:
        """All labels, with how many images have each."""
        query = "SELECT label, count(*) FROM image WHERE label != '' GROUP BY label ORDER BY label"
        return {row[0]: row[1] for row in self.store.read().execute(query)}

    def delete_image(self, id: str) -> bool:
        """Forget an image; False where somebody else was quicker."""
        with self.store.write() as db:
            return db.execute("DELETE FROM image WHERE id = ?", (id,)).rowcount == 1

    def add_session(self, hash: str, owner: str, expires: float) -> None:
        """Keep a session, by the hash of its secret; those that have expired go."""
        with self.store.write() as db:
            db.execute("DELETE FROM session WHERE expires < ?", (time.time(),))
            db.execute("INSERT INTO session VALUES (?, ?, ?)", (hash, owner, expires))

    def session(self, hash: str, now: float) -> str | None:
        """Whose session it is."""
        query = "SELECT owner FROM session WHERE hash = ? AND expires > ?"
        row = self.store.read().execute(query, (hash, now)).fetchone()
        return row[0] if row else None

    def end_session(self, hash: str) -> None:
        """Forget a session."""
        with self.store.write() as db:
            db.execute("DELETE FROM session WHERE hash = ?", (hash,))
