"""For faces whose requests end when their images are drawn: a job from its beginning to its end."""

import base64

from starlette.concurrency import run_in_threadpool

from vesalius.serve.bodies import Drawing
from vesalius.serve.database import Job, Made
from vesalius.serve.files import encoded
from vesalius.serve.service import Refused, Service


async def drawn(service: Service, owner: str, body: Drawing) -> tuple[Job, list[Made]]:
    """A job that has ended, with its images.

    Raises VesaliusError for what cannot be drawn, Refused for a job that failed or gave nothing.
    """
    job = await run_in_threadpool(service.submit, owner, body)
    async for event in service.events.follow(job.id):
        if event is None and (await run_in_threadpool(service.job, job.id)).is_over:
            break
    job, made = await run_in_threadpool(_result, service, job.id)
    if job.state == "failed":
        raise Refused(422, job.error)
    if not made:
        raise Refused(409, "the job was cancelled before an image was done")
    return job, made


def _result(service: Service, id: str) -> tuple[Job, list[Made]]:
    return service.job(id), service.database.images_of(id)


async def as_text(service: Service, made: Made) -> str:
    """Base64 of an image's file."""
    content = await run_in_threadpool(encoded, made, service.library.image(made.id), "png")
    return base64.b64encode(content).decode()
