"""What the server knows of a study: protocol, database, trials and images. It never opens the key."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vesalius.errors import VesaliusError
from vesalius.study.database import Database, Item, Trial
from vesalius.study.layout import Layout, open_study
from vesalius.study.protocol import Protocol, read_protocol


@dataclass(frozen=True)
class Material:
    """A locked study. Trials and items do not change any more, so they are kept in memory."""

    layout: Layout
    protocol: Protocol
    database: Database
    items: Mapping[str, Item]

    @cached_property
    def trials(self) -> dict[str, list[Trial]]:
        """Each reader's trials, in order."""
        found: dict[str, list[Trial]] = {reader.id: [] for reader in self.database.readers()}
        for trial in self.database.trials():
            found[trial.reader].append(trial)
        return found

    @cached_property
    def by_token(self) -> dict[str, Trial]:
        """Trials by the random name under which a browser knows them."""
        return {trial.token: trial for trials in self.trials.values() for trial in trials}

    @cached_property
    def study_id(self) -> str:
        """What tells this study's cookies and stored answers from another's."""
        return hashlib.sha256((self.database.meta("study") or "").encode()).hexdigest()[:12]

    def png(self, trial: Trial, side: int) -> bytes:
        """The image file of one side of a trial."""
        return self.layout.image(trial.items[side]).read_bytes()


def open_material(folder: Path | str) -> Material:
    """Open a locked study for reading.

    Raises VesaliusError where it is not locked, or an image is missing or was changed since.
    """
    layout = open_study(folder)
    if not layout.lock.is_file():
        raise VesaliusError(
            f"{folder} is not locked: run `vesalius study lock {folder}` before the first answer"
        )
    database = Database(layout.database)
    try:
        locked = hashlib.sha256(layout.lock.read_bytes()).hexdigest()
        if database.meta("locked") != locked:
            raise VesaliusError(
                f"{layout.lock} is not the file that `vesalius study lock` wrote: put it back"
            )
        items = {item.id: item for item in database.items()}
        for item in items.values():
            _check(layout.image(item.id), item)
        return Material(layout, read_protocol(layout.protocol), database, items)
    except BaseException:
        database.close()
        raise


def _check(path: Path, item: Item) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise VesaliusError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != item.png_sha256:
        raise VesaliusError(f"{path} was changed after the lock: put the file back")
