"""Chunks made by the machines of a Ray cluster, which share the disk that the set is on.

A worker is a Ray actor with a GPU, or a CPU where there are none. Which of them makes a chunk, and
when, changes nothing in it. What a worker that died had not recorded is given to another.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vesalius.errors import VesaliusError
from vesalius.synthesize import worker as local
from vesalius.synthesize.job import Events, Job, in_windows
from vesalius.synthesize.store import recorded

_MOST_DEATHS = 3  # of workers, with no chunk finished in between


def run_on_ray(job: Job, numbers: Sequence[int], events: Events) -> None:
    """Make these chunks on a cluster: the settings' address, else RAY_ADDRESS, else this machine.

    Raises VesaliusError where Ray is missing or workers keep dying, and what a worker raised.
    """
    ray = _need_ray()
    job = _for_any_folder(job)
    with _connected(ray, job.settings.ray_address), _Pool(ray, job) as pool:
        first = pool.start()
        about, warnings, batch_size = pool.get(first.actor.begin.remote())
        events.begun(about, warnings)
        windows = in_windows(numbers, batch_size, job.settings.chunk)
        pool.queue.extend(windows)
        pool.assign(first)
        for _ in range(min(pool.slots, len(windows)) - 1):
            worker = pool.start()
            pool.busy[worker.actor.begin.remote()] = worker
        for result in pool.results():
            if isinstance(result, tuple):  # another worker has loaded the model: is it the same?
                events.begun(result[0], [])
            events.drawn(pool.rows)


@dataclass(eq=False)
class _RayWorker:
    """A worker, and the chunks that it was given and has not yet reported as written."""

    actor: Any
    given: set[int] = field(default_factory=set)


class _Actor:
    """Runs on the cluster. Nothing is loaded before `begin`, whose errors reach the caller."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def begin(self) -> tuple[dict[str, Any], list[str], int]:
        """Load the model: what decides the images, warnings, the batch size."""
        self.worker = local.start(self.job)
        return self.worker.about, self.worker.check(), self.worker.batch_size

    def make(self, numbers: Sequence[int]) -> list[int]:
        """Draw chunks; return those that are written by now, of these or of earlier calls."""
        self.worker.make(numbers)
        return self.worker.finished()

    def rest(self) -> list[int]:
        """The chunks that were still to be written, once they are."""
        return self.worker.finished(wait=True)


class _Pool:
    """The workers, what each is at, and what is still to be done."""

    def __init__(self, ray: Any, job: Job) -> None:
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") and job.settings.device != "cpu" else "CPU"
        self.slots = max(1, int(resources.get(kind, 1)))
        self._actor = ray.remote(num_cpus=1, num_gpus=int(kind == "GPU"))(_Actor)
        self._ray, self._job = ray, job
        self._shared = ray.put(job)  # once, however many workers there are
        self._workers: list[_RayWorker] = []
        self._idle: list[_RayWorker] = []
        self._deaths = 0
        self.queue: deque[Sequence[int]] = deque()
        self.busy: dict[Any, _RayWorker] = {}
        self.rows = 0  # written

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)

    def start(self) -> _RayWorker:
        """A new worker."""
        worker = _RayWorker(self._actor.remote(self._shared))
        self._workers.append(worker)
        return worker

    def assign(self, worker: _RayWorker) -> None:
        """Give a worker its next chunks, or when there are none, time to write the last ones."""
        if self.queue:
            window = self.queue.popleft()
            worker.given.update(window)
            self.busy[worker.actor.make.remote(window)] = worker
        elif worker.given:
            self.busy[worker.actor.rest.remote()] = worker
        else:
            self._idle.append(worker)

    def results(self) -> Iterator[Any]:
        """What the workers report, until nothing is left to do."""
        while self.busy:
            ready, _ = self._ray.wait(list(self.busy))
            worker = self.busy.pop(ready[0])
            try:
                result = self.get(ready[0])
            except self._ray.exceptions.RayActorError as error:
                self._replace(worker, error)
                continue
            if isinstance(result, list):
                worker.given.difference_update(result)
                self.rows += sum(len(self._job.of(number)) for number in result)
                self._deaths = 0 if result else self._deaths
            yield result
            self.assign(worker)

    def get(self, reference: Any) -> Any:
        """What a call returned. Raises what it raised, as it was before Ray wrapped it."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, VesaliusError | OSError):
                raise error.cause from error
            reason = str(error).strip().splitlines()[-1]
            raise VesaliusError(f"a worker of the Ray cluster failed: {reason}") from error

    def _replace(self, worker: _RayWorker, error: Exception) -> None:
        """Put what a dead worker had not written back, and another worker in its place."""
        self._deaths += 1
        if self._deaths > _MOST_DEATHS:
            reason = str(error).strip().splitlines()[0]
            raise VesaliusError(
                f"workers of the Ray cluster keep dying (out of memory?), the last one so: {reason}"
            ) from error
        self._workers.remove(worker)
        there = set(recorded(self._job.out))
        written = worker.given & there
        self.rows += sum(len(self._job.of(number)) for number in written)
        if lost := sorted(worker.given - there):
            self.queue.appendleft(lost)
        if self._idle:
            self.assign(self._idle.pop())
        else:
            new = self.start()
            self.busy[new.actor.begin.remote()] = new


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
        adapters=tuple(map(_absolute, asked.adapters)),
        guard=asked.guard and Path(asked.guard).expanduser().resolve(),
    )
    return replace(job, out=job.out.resolve(), work=job.work.resolve(), settings=settings)


def _absolute(name: str) -> str:
    """`FILE`, `FILE:WEIGHT` or a folder from the root; what names nothing here is left as it is."""
    path, colon, weight = name.rpartition(":")
    for text, rest in ((name, ""), (path, colon + weight)):
        if text and Path(text).expanduser().exists():
            return str(Path(text).expanduser().resolve()) + rest
    return name
