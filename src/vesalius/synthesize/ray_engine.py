"""Chunks made by the machines of a Ray cluster, which share the disk that the set is on.

A worker is a Ray actor with a GPU, or a CPU where there are none. Which of them makes a chunk, and
when, changes nothing in it. Ray restarts a worker that died, which then makes the
chunks that it had not recorded.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from vesalius.core.paths import expanded
from vesalius.errors import VesaliusError
from vesalius.synthesize import worker
from vesalius.synthesize.job import Events, Job, in_windows
from vesalius.synthesize.row_adapters import RowAdapters
from vesalius.synthesize.store import recorded

_MOST_DEATHS = 3  # of workers over the same chunks


def run_on_ray(job: Job, numbers: Sequence[int], events: Events) -> None:
    """Make these chunks on a cluster: the settings' address, else RAY_ADDRESS, else this machine.

    Raises VesaliusError where Ray is missing or workers keep dying, and what a worker raised.
    """
    ray = _need_ray()
    job = _for_any_folder(job)
    with _connected(ray, job.settings.ray_address):
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") and job.settings.device != "cpu" else "CPU"
        slots = max(1, int(resources.get(kind, 1)))
        restarts = {"max_restarts": -1, "max_task_retries": _MOST_DEATHS}
        actor = ray.remote(num_cpus=1, num_gpus=int(kind == "GPU"), **restarts)(_Actor)
        shared = ray.put(job)  # once, however many workers there are
        actors = [actor.remote(shared)]
        try:
            about, warnings, window_rows = _result(ray, actors[0].begin.remote())
            events.begun(about, warnings)
            windows = deque(in_windows(numbers, window_rows, job.settings.chunk))
            actors += [actor.remote(shared) for _ in range(min(slots, len(windows)) - 1)]
            busy: dict[Any, tuple[Any, Sequence[int]]] = {}

            def assign(one: Any) -> None:
                window = windows.popleft()
                busy[one.make.remote(window)] = (one, window)

            for one in actors:
                assign(one)
            rows = 0
            while busy:
                [ready], _ = ray.wait(list(busy))
                one, window = busy.pop(ready)
                if (theirs := _result(ray, ready)) != about:  # another model, on another machine?
                    events.begun(theirs, [])
                rows += sum(len(job.of(number)) for number in window)
                events.drawn(rows)
                if windows:
                    assign(one)
        finally:
            for one in actors:
                ray.kill(one)


class _Actor:
    """Runs on the cluster. Nothing is loaded before `begin`, whose errors reach the caller."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.worker: worker.Worker | None = None

    def begin(self) -> tuple[dict[str, Any], list[str], int]:
        """Load the model: what decides the images, warnings, the rows of a window."""
        self.worker = worker.start(self.job)
        return self.worker.about, self.worker.check(), self.worker.window_rows

    def make(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Make chunks, but for those that are there: what decides the images."""
        if self.worker is None:
            self.begin()
        assert self.worker is not None
        there = set(recorded(self.job.out))  # by this worker, before it died
        self.worker.make([number for number in numbers if number not in there])
        self.worker.finished(wait=True)
        return self.worker.about


def _result(ray: Any, reference: Any) -> Any:
    """What a call returned. Raises what it raised, as it was before Ray wrapped it."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VesaliusError | OSError):
            raise error.cause from error
        reason = str(error).strip().splitlines()[-1]
        raise VesaliusError(f"a worker of the Ray cluster failed: {reason}") from error
    except ray.exceptions.RayActorError as error:
        reason = str(error).strip().splitlines()[0]
        raise VesaliusError(
            f"workers of the Ray cluster keep dying (out of memory?), the last one so: {reason}"
        ) from error


def _need_ray() -> Any:
    # it would report to its makers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise VesaliusError(
            "--engine ray needs Ray, which is not installed: pip install 'vesalius[ray]'"
        ) from error
    return ray


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """In a Ray session: the caller's own if there is one, else a new one for as long as this."""
    if ray.is_initialized():
        yield
        return
    remote = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"address": remote} if remote else {"include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise VesaliusError(f"no Ray cluster at {remote or 'this machine'}: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _for_any_folder(job: Job) -> Job:
    """The job with absolute paths: a worker may have another current folder."""
    if job.model or job.guard:
        raise VesaliusError("--engine ray needs the model and the guard by name, not loaded")
    asked = job.settings
    settings = replace(
        asked,
        model=_absolute(asked.model),
        guard=asked.guard and expanded(asked.guard).resolve(),
    )
    own = {label: tuple(map(_absolute, some)) for label, some in job.adapters.of_label.items()}
    adapters = RowAdapters(tuple(map(_absolute, job.adapters.common)), own)
    places = {"out": job.out.resolve(), "work": job.work.resolve()}
    return replace(job, **places, settings=settings, adapters=adapters)


def _absolute(name: str) -> str:
    """`FILE`, `FILE:WEIGHT` or a folder from the root; what names nothing here is left as it is."""
    path, colon, weight = name.rpartition(":")
    for text, rest in ((name, ""), (path, colon + weight)):
        if text and expanded(text).exists():
            return str(expanded(text).resolve()) + rest
    return name
