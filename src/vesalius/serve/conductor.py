"""The queue at work: gives jobs to the one process with the model, and keeps what comes back.

The process can die at any moment, and so can this one: the database says what is still to be done.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vesalius.core.atomic import remove
from vesalius.errors import VesaliusError
from vesalius.serve.database import Database, Job, Made
from vesalius.serve.events import Events
from vesalius.serve.messages import Config, Order, say

MOST_DEATHS = 5  # of the worker at one job without a new image
WORKER = (sys.executable, "-m", "vesalius.serve.worker")
_MOST_PAUSE = 30.0  # seconds before a worker that died at its start is started again
_ENDS_AT_ONCE = "the process that draws ends at its start: the terminal of the server says why"

Status = Literal["loading", "ready", "drawing", "broken", "stopped"]


@dataclass(frozen=True)
class Library:
    """Where files lie; names are made of ids that the server drew itself."""

    folder: Path

    def image(self, id: str) -> Path:
        """An image's file."""
        return self.folder / "images" / id[:2] / f"{id}.png"

    def upload(self, job: str, name: str) -> Path:
        """An image that a job starts from, until it has ended."""
        return self.folder / "uploads" / job / name

    def without_paths(self, text: str, job: str) -> str:
        """A message with names in the place of files, which are nobody's business."""
        for name in ("image", "mask"):
            path = str(self.upload(job, name))
            text = text.replace(f"the {name} {path}", f"the {name}").replace(path, f"the {name}")
        return self.without_folder(text)

    def without_folder(self, text: str) -> str:
        """A message that does not say where the library lies."""
        return text.replace(str(self.folder.absolute()), "the library").replace(
            str(self.folder), "the library"
        )

    def forget_uploads(self, job: str) -> None:
        """They may be of patients."""
        remove(self.folder / "uploads" / job)


@dataclass
class Live:
    """What is known of the job that is being drawn, and lost with the process."""

    job: str
    begun: float  # time.monotonic
    start: float = 0.0  # images that were done when it began
    done: float = 0.0
    step: int = 0
    previews: dict[int, str] = field(default_factory=dict)  # base64 of PNG by number


class Conductor:
    """One worker at a time, one job at a time, in the order of the queue."""

    def __init__(
        self,
        database: Database,
        library: Library,
        config: Config,
        events: Events,
        command: Sequence[str] = WORKER,
    ) -> None:
        self.database, self.library, self.config = database, library, config
        self.events, self.command = events, tuple(command)
        self.on_change: Callable[[list[str]], None] = lambda jobs: None
        self.status: Status = "loading"
        self.problem = ""  # why nothing can be drawn
        self._passes = False  # whether the problem may pass by itself
        self.live: Live | None = None
        self.pace: dict[str, float] = {}  # seconds a unit of work, by model
        self.hashes: dict[str, str] = {}  # of models that were loaded
        self.work: Callable[[Job], float] = lambda job: float(len(job.images))
        self._lock = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        self._failed_starts = 0
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier life of the server left undone."""
        self.database.requeue(died=False)
        self._sweep()
        self._thread.start()

    def stop(self) -> None:
        """End the worker; what it was drawing is drawn again at the next start."""
        with self._lock:
            self._stopping.set()
            if self._process:
                self._process.kill()
        if self._thread.is_alive():
            self._thread.join()
        self.status = "stopped"

    def wake(self) -> None:
        """A job has come: it is drawn at once where nothing else is."""
        with self._lock:
            if self.status != "ready":
                return
            try:
                self._next()
            except VesaliusError as error:  # no room: it waits for the next worker
                self._trouble(str(error))
                if self._process:
                    self._process.kill()

    def cancel(self, id: str) -> bool:
        """End a job before it is done; its finished images stay."""
        with self._lock:
            if not self.database.end_job(id, "cancelled"):
                return False
            if self.live and self.live.job == id and self._process and self._process.stdin:
                self._say({"cancel": id})
            else:
                self.library.forget_uploads(id)
        self._changed(id)
        self._queue_moved()
        return True

    def _sweep(self) -> None:
        """Remove uploads of jobs that ended while the server was being killed."""
        for folder in (self.library.folder / "uploads").glob("*"):
            job = self.database.job(folder.name)
            if job is None or job.is_over:
                remove(folder)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if process := self._born():
                self._follow(process)
            if self._failed_starts > 2 and not self.problem:
                self._trouble(_ENDS_AT_ONCE)
            if self._failed_starts:
                self._stopping.wait(min(_MOST_PAUSE, 2**self._failed_starts / 8))

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        """Hear a worker until it is dead."""
        try:
            self._listen(process)
        except (VesaliusError, OSError, sqlite3.Error) as error:  # the disk is full, for one
            self._trouble(str(error))
            process.kill()
        process.wait()
        try:
            self._buried()  # before its pipes are closed: nobody writes into them from then on
        except (VesaliusError, OSError, sqlite3.Error) as error:
            self._trouble(str(error))
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()

    def _born(self) -> "subprocess.Popen[str] | None":
        """A new worker; None where the server ends, or there is no room for another process."""
        with self._lock:
            if self._stopping.is_set():
                return None
            self._failed_starts += 1  # until it says that it is ready
            self.status, self.live = "loading", None
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    start_new_session=True,  # Ctrl-C is for the server alone
                )
            except OSError as error:
                why = error.strerror or error
                self._trouble(f"the process that draws cannot be started: {why}")
                return None
            self._say(asdict(self.config))
            return self._process

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            try:
                message = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                return
            self._hear(message)

    def _trouble(self, problem: str) -> None:
        """What keeps jobs from being drawn, until a worker has got further."""
        self.problem, self._passes = self.library.without_folder(problem), True

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process
        assert self._process.stdin
        try:
            say(self._process.stdin, message)
        except (OSError, ValueError):  # it has just died, which its reader notices
            return

    def _buried(self) -> None:
        """The worker is dead: its job is tried again, unless that has been of no use."""
        with self._lock:
            live, self.live = self.live, None
            self.status = "loading"
            if self._stopping.is_set():
                return
            if live and (job := self.database.job(live.job)) and job.is_over:
                self.library.forget_uploads(job.id)  # cancelled, which it has not told
            running = self.database.jobs(("running",))
            self.database.requeue(died=True)
            for job in running:
                if job.deaths + 1 >= MOST_DEATHS:
                    self._end(job.id, "failed", "the process that draws ended each time it tried")
                else:
                    self._changed(job.id)

    def _next(self) -> None:
        """Give the worker the job whose turn it is."""
        while job := self.database.next_job():
            if not self.database.start_job(job.id):
                continue
            done = len(self.database.images_of(job.id))
            uploads = self.library.folder / "uploads" / job.id
            pictures = {path.name: str(path) for path in uploads.glob("*")}
            files = [str(self.library.image(id)) for id in job.images]
            self.live = Live(job.id, time.monotonic(), done, done)
            self.status = "drawing"
            self._say(asdict(Order(job.id, job.body, files, done, pictures)))
            self._changed(job.id)
            self._queue_moved()
            return
        self.status = "ready"

    def _hear(self, message: dict[str, Any]) -> None:
        at, job = message["at"], message["job"]
        with self._lock:
            if at == "loaded":
                self.hashes[message["model"]] = message["model_hash"]
                if message["model"] == next(iter(self.config.models)) and not self._passes:
                    self.problem = ""  # it could not be loaded before
            elif at == "broken":
                self.problem, self._passes = self._plain(message["error"], ""), False
            elif at == "begun":
                if message["warnings"]:
                    self.database.warn_job(job, message["warnings"])
                    self._changed(job)
            elif at == "step":
                self._step(message)
            elif at == "image":
                self._image(job, message)
            elif at == "ready":
                self.database.requeue(died=False)  # what a disk without room left as it was
                self._failed_starts = 0
                self._next()
                if self._passes:
                    self.problem, self._passes = "", False
            else:
                self._pace(job)
                self._end(job, at, self._plain(message.get("error", ""), job))
                self.live = None
                self._next()

    def _plain(self, text: str, job: str) -> str:
        """An error of the worker as others may read it: without places of files."""
        for offered in (self.config.adapters, self.config.models):
            for id, place in offered.items():
                text = text.replace(place, id)
        return self.library.without_paths(text, job)

    def _step(self, message: dict[str, Any]) -> None:
        if not self.live or self.live.job != message["job"]:
            return
        if self.live.done == self.live.start and not self.live.step:
            self.live.begun = time.monotonic()  # the model is loaded, and the first step done
            self.live.start = message["done"]
        self.live.done, self.live.step = message["done"], message["step"]
        previews = [{"number": number, "png": png} for number, png in message["previews"]]
        if previews:
            self.live.previews = {preview["number"]: preview["png"] for preview in previews}
        data = {"done": message["done"], "step": message["step"], "previews": previews}
        self.events.tell(message["job"], "step", data | {"eta_seconds": self.remaining()})

    def _image(self, id: str, message: dict[str, Any]) -> None:
        job = self.database.job(id)
        assert job
        number, source = message["number"], self._painted_into(job)
        body = dict(job.body)
        if job.kind != "interpolate":
            body |= {"seed": message["seed"], "n": 1}
        self.database.add_image(
            Made(
                seq=0,
                id=job.images[number],
                job=id,
                number=number,
                owner=job.owner,
                prompt=message["prompt"],
                label=job.body["label"],
                model=job.body["model"],
                seed=message["seed"],
                body=body,
                provenance=message["provenance"],
                window=message["window"] or (source and source.window),
                sha256=message["sha256"],
                created=time.time(),
                kept=message["kept"] or (source and source.kept),
            )
        )
        self.events.tell(id, "image", {"number": number, "id": job.images[number]})
        self._changed(id)

    def _painted_into(self, job: Job) -> Made | None:
        """The image of the library that a job paints into, which may keep something of a DICOM file."""
        id = job.body["image"]["id"] if job.kind == "inpaint" else None
        return self.database.image(id) if id else None

    def _pace(self, id: str) -> None:
        """Learn from a job that has ended how long work takes."""
        live, job = self.live, self.database.job(id)
        if not live or not job or live.done - live.start < 0.5:
            return
        share = (live.done - live.start) / len(job.images)
        seconds = (time.monotonic() - live.begun) / (self.work(job) * share)
        before = self.pace.get(job.body["model"], seconds)
        self.pace[job.body["model"]] = (before + seconds) / 2

    def remaining(self) -> float | None:
        """Seconds until the job at hand is done, as far as one can tell."""
        live = self.live
        job = self.database.job(live.job) if live else None
        if not live or not job:
            return None
        left, been = len(job.images) - live.done, live.done - live.start
        if been > 0:
            return round(left * (time.monotonic() - live.begun) / been, 1)
        return self._estimate(job, left / len(job.images))

    def _estimate(self, job: Job, share: float = 1.0) -> float | None:
        pace = self.pace.get(job.body["model"])
        return None if pace is None else round(pace * self.work(job) * share, 1)

    def waiting(self) -> dict[str, tuple[int, float | None]]:
        """For each job that has not ended: its place, 0 being drawn, and seconds until it is done."""
        found, total, known = dict[str, tuple[int, float | None]](), 0.0, True
        for job in self.database.waiting():
            drawn = job.state == "running"
            seconds = self.remaining() if drawn else self._estimate(job)
            known = known and seconds is not None
            total += seconds or 0.0
            place = 0 if drawn else 1 + sum(place > 0 for place, _ in found.values())
            found[job.id] = (place, round(total, 1) if known else None)
        return found

    def _end(self, id: str, state: Any, error: str = "") -> None:
        self.database.end_job(id, state, error)
        self.library.forget_uploads(id)
        self._changed(id)

    def _changed(self, *ids: str) -> None:
        self.on_change(list(ids))

    def _queue_moved(self) -> None:
        self._changed(*(job.id for job in self.database.jobs(("queued",))))

    def keep_upload(self, job: str, name: str, content: bytes | Path) -> None:
        """Put an image where the worker finds it."""
        path = self.library.upload(job, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
