"""How far each reader is. Nothing here looks at what was answered."""

import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vesalius.study.database import Database, Reader, open_database
from vesalius.study.layout import open_study


@dataclass(frozen=True)
class ReaderProgress:
    """One reader: trials answered, of how many, and the median seconds that one took."""

    reader: str
    state: str
    done: int
    of: int
    seconds: float | None
    last_seen: float | None  # seconds since 1970
    finished_at: float | None


@dataclass(frozen=True)
class Progress:
    """All readers, in the protocol's order."""

    readers: tuple[ReaderProgress, ...]

    def table(self) -> list[tuple[str, ...]]:
        """A head and a row of texts for each reader."""
        head = ("reader", "state", "answered", "median", "last seen", "finished")
        return [head] + [
            (
                row.reader,
                row.state,
                f"{row.done} of {row.of}",
                "" if row.seconds is None else f"{row.seconds:.1f} s",
                _when(row.last_seen),
                _when(row.finished_at),
            )
            for row in self.readers
        ]

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = ("  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


def status(folder: Path | str) -> Progress:
    """The progress of the study in `folder`."""
    with open_database(open_study(folder)) as database:
        return progress(database)


def progress(database: Database) -> Progress:
    """The progress of a study whose database is open."""
    return Progress(tuple(_of(database, reader) for reader in database.readers()))


def _of(database: Database, reader: Reader) -> ReaderProgress:
    answers = list(database.answers(reader.id))
    counted = database.counted(reader.id)
    visible = [a.visible_ms / 1000 for a in counted.values() if a.visible_ms is not None]
    seen = [a.received_at for a in answers] + [
        event.at for event in database.events(reader.id) if event.kind != "link"
    ]
    return ReaderProgress(
        reader=reader.id,
        state=_state(reader, len(counted)),
        done=len(counted),
        of=sum(1 for _ in database.trials(reader.id)),
        seconds=statistics.median(visible) if visible else None,
        last_seen=max(seen, default=None),
        finished_at=reader.finished_at,
    )


def _state(reader: Reader, done: int) -> str:
    if reader.finished_at is not None:
        return "finished"
    if done:
        return "reading"
    if reader.started_at is not None:
        return "opened"
    return "link given" if reader.token_hash else "no link yet"


def _when(at: float | None) -> str:
    if at is None:
        return ""
    minutes = (time.time() - at) / 60
    if 0 <= minutes < 60:
        return f"{minutes:.0f} min ago" if minutes >= 1 else "now"
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
