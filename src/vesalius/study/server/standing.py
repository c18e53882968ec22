"""Where a reader stands, found anew from the rows of the database at each request."""

import time
from dataclasses import dataclass
from typing import Literal

from vesalius.study.database import Reader, Trial
from vesalius.study.server.material import Material

Page = Literal["consent", "profile", "display", "briefing", "reading", "end"]
REST_SECONDS = 600  # without an answer count as a break
UNDO_AFTER_END_SECONDS = 900
LOOK_AHEAD = 4  # trials that a browser may fetch, the one on the screen included


@dataclass(frozen=True)
class Standing:
    """Trials are answered in order, so the first `done` of them are."""

    reader: Reader
    trials: tuple[Trial, ...]
    done: int
    last_at: float | None  # when the last answer that counts arrived
    pause_in_trials: int
    pause_in_seconds: float
    is_unaware_first: bool

    @property
    def next(self) -> Trial | None:
        """The trial to be answered now."""
        return self.trials[self.done] if self.done < len(self.trials) else None

    @property
    def page(self) -> Page:
        """The page that is the reader's turn."""
        if not self.reader.consent_hash:
            return "consent"
        if "years" not in self.reader.profile:
            return "profile"
        if "display" not in self.reader.profile:
            return "display"
        if self.next is None:
            return "end"
        told = not self.is_unaware_first or "seen_before" in self.reader.profile
        # practice comes before the unaware trials of its task
        is_unaware = any(trial.phase == "unaware" for trial in self.trials[self.done :])
        return "reading" if told or is_unaware else "briefing"

    @property
    def ahead(self) -> tuple[Trial, ...]:
        """The next trials of the block under way."""
        found = self.trials[self.done : self.done + LOOK_AHEAD]
        return tuple(trial for trial in found if block(trial) == block(found[0]))

    @property
    def undoable(self) -> Trial | None:
        """The trial whose answer can be taken back: the last one of the block under way.

        Not one of training, whose right answer was shown, and not one of a block before: readers may
        know more by now.
        """
        if not self.done:
            return None
        before = self.trials[self.done - 1]
        if before.phase == "training":
            return None
        if self.next is None:
            since = time.time() - (self.last_at or 0)
            return before if since < UNDO_AFTER_END_SECONDS else None
        return before if block(before) == block(self.next) else None


def block(trial: Trial) -> tuple[str, str]:
    """What has an introduction of its own."""
    return trial.phase, trial.task


def standing(material: Material, reader: Reader) -> Standing:
    """Where `reader` stands now."""
    trials = material.trials[reader.id]
    arrivals = material.database.arrivals(reader.id)
    done = next((k for k, trial in enumerate(trials) if trial.id not in arrivals), len(trials))
    received = [arrivals[trial.id] for trial in trials[:done]]
    begun, number = _sitting(received, material.database.last_event(reader.id, "break") or 0.0)
    rest = material.protocol.break_after
    return Standing(
        reader=reader,
        trials=tuple(trials),
        done=done,
        last_at=received[-1] if received else None,
        pause_in_trials=rest.trials - number,
        pause_in_seconds=60 * rest.minutes - (time.time() - begun if number else 0),
        is_unaware_first=material.protocol.unaware_first,
    )


def _sitting(received: list[float], last_break: float) -> tuple[float, int]:
    """When the sitting under way began, and its answers so far."""
    since = [at for at in received if at > last_break]
    if not since or time.time() - since[-1] > REST_SECONDS:
        return time.time(), 0
    first = 0
    for k in range(1, len(since)):
        if since[k] - since[k - 1] > REST_SECONDS:
            first = k
    return since[first], len(since) - first
