"""What can be done with jobs and images, whichever face of the server it is asked through."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vesalius.core.atomic import remove
from vesalius.errors import VesaliusError
from vesalius.serve.answers import JobAnswer, Picture, moment
from vesalius.serve.bodies import DRAWN, Drawing, parse_body
from vesalius.serve.catalogue import Catalogue
from vesalius.serve.conductor import Conductor, Library
from vesalius.serve.database import Database, Job, Made, NewJob
from vesalius.serve.drawing import check
from vesalius.serve.events import Events
from vesalius.serve.settings import MOST_QUEUED, ServeSettings
from vesalius.serve.shown import Shown
from vesalius.serve.uploads import check_pictures, content_of


class Refused(VesaliusError):
    """A request that is not served, with its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Service:
    """The parts of a server that all its faces share."""

    settings: ServeSettings
    catalogue: Catalogue
    database: Database
    library: Library
    conductor: Conductor
    events: Events
    shown: Mapping[str, Shown]
    chosen: dict[str, str] = field(default_factory=dict)  # users' models of the web UI's face

    def submit(self, owner: str, body: Drawing, key: str | None = None) -> Job:
        """Put a job into the queue. The same key again gives the job that it gave before.

        Raises VesaliusError for what cannot be drawn, Refused where the queue is full or the key
        was that of another body.
        """
        asked = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        body = body.model_copy(
            update={
                "model": body.model or self.catalogue.default,
                "seed": secrets.randbelow(2**32) if body.seed == DRAWN else body.seed,
            }
        )
        check(body)
        self.catalogue.check(body)
        id = secrets.token_hex(16)
        try:
            files = self._keep_pictures(id, body)
            try:
                mask = check_pictures(body, files)
            except VesaliusError as error:
                raise Refused(422, self.library.without_paths(str(error), id)) from error
            document = body.model_dump(mode="json")
            for name in body.pictures:
                document[name] = _remembered(document[name], mask if name == "mask" else "")
            images = [secrets.token_hex(16) for _ in range(body.images)]
            new = NewJob(id, owner, document, images, asked, key)
            job = self.database.add_job(new, MOST_QUEUED)
        except BaseException:
            self.library.forget_uploads(id)
            raise
        if job is None or job.id != id:
            self.library.forget_uploads(id)
        if job is None:
            raise Refused(
                429, f"{MOST_QUEUED} jobs are waiting, and the queue holds no more: try later"
            )
        if job.id == id:
            self.tell([id])
            self.conductor.wake()
        elif job.asked != asked:
            raise Refused(409, "this Idempotency-Key was that of another job")
        return self.database.job(job.id) or job

    def _keep_pictures(self, job: str, body: Drawing) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for name, picture in body.pictures.items():
            content: bytes | Path
            if picture.id is not None:
                content = self.library.image(self.made(picture.id).id)
            else:
                content = content_of(picture.data or "")
            try:
                self.conductor.keep_upload(job, name, content)
            except FileNotFoundError as error:
                raise Refused(404, f"image {picture.id} is no longer there") from error
            files[name] = self.library.upload(job, name)
        return files

    def without_folders(self, text: str) -> str:
        """A message that does not say where the library and what is shown lie."""
        for one in self.shown.values():
            text = text.replace(str(one.folder), one.name)
        return self.library.without_folder(text)

    def job(self, id: str) -> Job:
        """A job. Raises Refused where there is none."""
        job = self.database.job(id)
        if job is None:
            raise Refused(404, "there is no such job")
        return job

    def made(self, id: str) -> Made:
        """An image of the library. Raises Refused where there is none."""
        made = self.database.image(id)
        if made is None:
            raise Refused(404, "there is no such image")
        return made

    def cancel(self, user: str, id: str) -> Job:
        """End a job of the user's own. Raises Refused for those of others, and those that are over."""
        job = self.job(id)
        if job.owner != user:
            raise Refused(403, f"this job is {job.owner}'s: only its owner cancels it")
        if not self.conductor.cancel(id):
            raise Refused(409, "this job is over already")
        return self.job(id)

    def delete(self, user: str, id: str) -> None:
        """Delete an image of the user's own, its file and its row."""
        made = self.made(id)
        if made.owner != user:
            raise Refused(403, f"this image is {made.owner}'s: only its owner deletes it")
        job = self.database.job(made.job)
        if job and not job.is_over:
            raise Refused(409, "its job is still being drawn: cancel it, or wait for it")
        if not self.database.delete_image(id):
            raise Refused(404, "there is no such image")
        remove(self.library.image(id))

    def answers(self, jobs: Sequence[Job]) -> list[JobAnswer]:
        """Jobs as they stand."""
        waiting = self.conductor.waiting() if any(not job.is_over for job in jobs) else {}
        return [self._answer(job, waiting.get(job.id, (None, None))) for job in jobs]

    def _answer(self, job: Job, waiting: tuple[int | None, float | None]) -> JobAnswer:
        body, live = parse_body(job.body), self.conductor.live
        images = self.database.images_of(job.id)
        drawn = live is not None and live.job == job.id and not job.is_over
        steps = self.catalogue.steps(body) if body.model in self.catalogue.models else 0
        return JobAnswer(
            id=job.id,
            kind=job.kind,
            state=job.state,
            owner=job.owner,
            prompt=body.words,
            settings=job.body,
            total=len(job.images),
            done=live.done if drawn and live else len(images),
            step=live.step if drawn and live else 0,
            steps=steps or body.steps or 0,
            place=waiting[0],
            eta_seconds=waiting[1],
            images=[Picture(number=made.number, id=made.id) for made in images],
            warnings=job.warnings,
            error=job.error,
            created=moment(job.created) or "",
            started=moment(job.started),
            ended=moment(job.ended),
        )

    def work(self, job: Job) -> float:
        """What a job costs, in steps of pixels."""
        return self.catalogue.work(parse_body(job.body))

    def tell(self, ids: Sequence[str]) -> None:
        """Tell whoever follows these jobs how they stand."""
        jobs = [job for job in map(self.database.job, ids) if job]
        for job, answer in zip(jobs, self.answers(jobs), strict=True):
            self.events.tell(job.id, "job", answer.model_dump(mode="json"), over=job.is_over)


def _remembered(picture: dict[str, Any], shape: str) -> dict[str, Any]:
    """A picture as it is remembered: what was uploaded may be of a patient, a mask's shape is not."""
    return {"id": picture["id"], "data": None if picture["id"] else shape}
