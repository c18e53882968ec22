"""What the server knows of a study: protocol, database, trials and images. It never opens the key."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vesalius.study.database import Database, Item, Trial
from vesalius.study.layout import Layout, open_study
from vesalius.study.lock import verify
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

    Raises VesaliusError where it is not locked, or something was changed since.
    """
    layout = open_study(folder)
    verify(layout, key=False)
    database = Database(layout.database)
    items = {item.id: item for item in database.items()}
    return Material(layout, read_protocol(layout.protocol), database, items)
