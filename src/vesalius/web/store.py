"""One SQLite file behind a server: rows that were acknowledged are there after any crash.

Write-ahead logging lets readers go on while one writes; `synchronous=FULL` has a row on the disk before
`write` returns. Writers of all threads and processes queue up (BEGIN IMMEDIATE and a busy timeout).
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError

BUSY_SECONDS = 10.0


class DiskFull(VesaliusError):
    """Nothing of what was to be written has been."""


class Store:
    """A SQLite file of one schema `version`, for any number of threads.

    Raises VesaliusError where the file is missing, is no database, or has another version.
    """

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._readers: dict[threading.Thread, sqlite3.Connection] = {}
        self._opening = threading.Lock()
        if not path.is_file():
            raise VesaliusError(f"{path} is missing")
        with _clear(path):
            self._writer = self._connect()
            found = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if found != version:
            self.close()
            raise VesaliusError(
                f"{path} has version {found} of its format, and this vesalius reads {version}: "
                "open it with the version that made it"
            )
        with _clear(path):
            self._writer.execute("PRAGMA journal_mode = WAL")

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: a file that is missing is not made
        address = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            address,
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def read(self) -> sqlite3.Connection:
        """This thread's connection, which refuses to write. Those of threads that ended are closed."""
        me = threading.current_thread()
        if me not in self._readers:
            with _clear(self.path):
                connection = self._connect()
                connection.execute("PRAGMA query_only = ON")
            with self._opening:
                for thread in [one for one in self._readers if not one.is_alive()]:
                    self._readers.pop(thread).close()
                self._readers[me] = connection
        return self._readers[me]

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk when the block ends, or nothing is.

        Raises DiskFull where the disk or the quota is at its end.
        """
        with self._lock, _clear(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close all connections; the log is merged into the file."""
        self._writer.close()
        with self._opening:
            for connection in self._readers.values():
                connection.close()
            self._readers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create_store(
    path: Path, version: int, schema: str, fill: Callable[[sqlite3.Connection], None]
) -> None:
    """Make a SQLite file with the tables of `schema`, filled by `fill`: all of it or none.

    One that is there is replaced. Only its owner may read it.
    """
    with _clear(path), atomic_path(path) as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.executescript(schema)
            connection.execute("BEGIN IMMEDIATE")
            fill(connection)
            connection.execute(f"PRAGMA user_version = {version:d}")
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()


def upgrade_store(path: Path, old: int, new: int, change: str) -> None:
    """Bring a SQLite file of version `old` to `new` by one statement; others stay as they are."""
    with _clear(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA user_version").fetchone()[0] == old:
                connection.execute(change)
                connection.execute(f"PRAGMA user_version = {new:d}")
            connection.execute("COMMIT")
        finally:
            connection.close()


@contextmanager
def _clear(path: Path) -> Iterator[None]:
    """Turn SQLite's errors that a user can do something about into one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            raise DiskFull(
                f"the disk of {path} is full: nothing was lost, free some room"
            ) from error
        if "locked" in text:
            raise VesaliusError(f"{path} is in use by another program: try again") from error
        if "unable to open" in text or "readonly" in text:
            raise VesaliusError(f"{path} cannot be opened for writing ({text})") from error
        raise
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a broken rule of the schema is ours
            raise
        raise VesaliusError(f"{path} is damaged or no database: {error}") from error
