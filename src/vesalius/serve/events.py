"""What happens to jobs, told to whoever listens; who comes back is told what he missed."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

_KEPT = 200  # feeds of jobs that have ended
QUIET_SECONDS = 10.0  # after which a listener is sent a sign of life


@dataclass(frozen=True)
class Event:
    """`name` is `job`, `step` or `image`; `id` finds the place again after a lost connection."""

    id: str
    name: str
    data: Any


@dataclass
class _Feed:
    count: int = 0
    events: list[tuple[int, Event]] = field(default_factory=list)
    wakes: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=set)
    is_over: bool = False


class Events:
    """Feeds of jobs, filled by any thread and read on event loops.

    Of steps and snapshots the last counts, so that a feed stays as short as its job has images.
    """

    def __init__(self) -> None:
        self.boot = secrets.token_hex(4)  # numbers begin anew with each start of the server
        self._lock = threading.Lock()
        self._feeds: dict[str, _Feed] = {}

    def tell(self, job: str, name: str, data: Any, *, over: bool = False) -> None:
        """Add an event; `over` says that it is the last."""
        with self._lock:
            feed = self._feeds.setdefault(job, _Feed())
            feed.count += 1
            if name != "image":
                feed.events = [item for item in feed.events if item[1].name != name]
            feed.events.append((feed.count, Event(f"{self.boot}-{feed.count}", name, data)))
            feed.is_over = feed.is_over or over
            wakes = list(feed.wakes)
            if over:
                self._forget_old()
        for loop, wake in wakes:
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:  # the loop of a listener who has left is closed
                continue

    def _forget_old(self) -> None:
        over = [job for job, feed in self._feeds.items() if feed.is_over and not feed.wakes]
        for job in over[:-_KEPT]:
            del self._feeds[job]

    def last(self, job: str, name: str) -> Any:
        """The data of the latest event of a name, or None."""
        with self._lock:
            feed = self._feeds.get(job)
            found = [e.data for _, e in (feed.events if feed else ()) if e.name == name]
        return found[-1] if found else None

    def place(self, last_id: str | None) -> int:
        """How many events of a feed somebody has seen who names the last one; 0 where unknown."""
        boot, _, number = (last_id or "").partition("-")
        return int(number) if boot == self.boot and number.isascii() and number.isdigit() else 0

    async def follow(self, job: str, seen: int = 0) -> AsyncIterator[Event | None]:
        """Events of a job after the first `seen`, until its last; None is a sign of life."""
        wake = asyncio.Event()
        me = (asyncio.get_running_loop(), wake)
        with self._lock:
            self._feeds.setdefault(job, _Feed()).wakes.add(me)
        try:
            while True:
                wake.clear()
                with self._lock:
                    feed = self._feeds[job]
                    new = [event for number, event in feed.events if number > seen]
                    seen, is_over = max(seen, feed.count), feed.is_over
                for event in new:
                    yield event
                if is_over:
                    return
                try:
                    await asyncio.wait_for(wake.wait(), QUIET_SECONDS)
                except TimeoutError:
                    yield None
        finally:
            with self._lock:
                self._feeds[job].wakes.discard(me)
