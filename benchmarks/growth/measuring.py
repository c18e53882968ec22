"""Processor seconds and peak memory of a piece of work, and how both grow with the data.

Seconds are those that all threads of the process spent on a core, which other work on the machine
changes little. Memory is what the process allocated itself (RssAnon): pages of files that are mapped
into it do not count, for the system takes them back when it needs them.
"""

import gc
import math
import resource
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY = 0.005  # seconds from one look at the memory to the next


@dataclass(frozen=True)
class Stage:
    """One step of the way: `prepare` makes what `work` needs in a folder; only the latter is measured.

    Both get the size and the folder. `prepare` returns what `work` gets as a third argument, if it is
    to be in memory already. `work` returns further figures, such as the bytes that it has written.
    """

    what: str  # the size counts these
    sizes: tuple[int, ...]
    work: Callable[..., dict[str, Any] | None]
    prepare: Callable[[int, Path], Any] = lambda size, folder: None


def measure(stage: Stage, size: int, folder: Path) -> dict[str, Any]:
    """One size of a stage: seconds, wall seconds, and MiB before and at the most."""
    folder.mkdir(parents=True, exist_ok=True)
    given = stage.prepare(size, folder)
    gc.collect()
    with Memory() as memory:
        began, wall = _seconds(), time.perf_counter()
        said = stage.work(size, folder) if given is None else stage.work(size, folder, given)
        figures = {"size": size, "seconds": _seconds() - began}
        figures["wall seconds"] = time.perf_counter() - wall
    figures |= {"MiB before": memory.before, "MiB": memory.most - memory.before}
    return {name: round(value, 3) for name, value in figures.items()} | (said or {})


class Memory:
    """The most memory that the process has of its own while this is entered, in MiB."""

    def __enter__(self) -> "Memory":
        self.before = self.most = own_memory()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, own_memory())

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            self.most = max(self.most, own_memory())


def own_memory() -> float:
    """MiB that this process has allocated and touched, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def _seconds() -> float:
    """Processor seconds of all threads, and of processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """B of values = a size^b, by least squares of the logarithms; None where there is nothing to fit."""
    points = [(math.log(n), math.log(v)) for n, v in zip(sizes, values, strict=True) if v > 0]
    if len({x for x, _ in points}) < 2:
        return None
    x = sum(each for each, _ in points) / len(points)
    y = sum(each for _, each in points) / len(points)
    over = sum((a - x) * (b - y) for a, b in points)
    return over / sum((a - x) ** 2 for a, _ in points)
