"""Many clients at once, mixed work: is every answer right, every image there, and memory flat?

    python -m benchmarks.serve.load --out OUT [--clients 50] [--minutes 10] [--model mini] [--without-model]

Each client asks for jobs of all kinds, follows some of them, searches, downloads, cancels and now
and then deletes. The only refusal that counts as none is 429 (and 404 or 409 for an image or a job
that another client was quicker with). Afterwards every image of every job must be in the library
with the hash of its file, unless a client deleted it.
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
import os
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from benchmarks.recording import record, run
from benchmarks.serve.server import Server


@dataclass
class Seen:
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)
    deleted: Counter[str] = field(default_factory=Counter)  # images, by their job
    seconds: list[float] = field(default_factory=list)  # of each request


@dataclass
class Memory:
    """Bytes that server and worker hold, every few seconds."""

    server: list[int] = field(default_factory=list)
    worker: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, list[float]]:
        """Megabytes at most in each fifth of the time."""
        return {"server": _fifths(self.server), "worker": _fifths(self.worker)}


def _fifths(found: list[int]) -> list[float]:
    parts = [found[k * len(found) // 5 : (k + 1) * len(found) // 5] for k in range(5)]
    return [round(max(part) / 1e6, 1) for part in parts if part]


def picture() -> str:
    stream = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


PICTURE = {"data": picture()}
SHARED = {"steps": 2, "label": "load"}
BODIES: list[dict[str, Any]] = [
    {"kind": "generate", "prompt": "a chest X-ray", "n": 2},
    {"kind": "compose", "parts": [{"prompt": "brain MRI"}, {"prompt": "glioma", "weight": 0.5}]},
    {"kind": "interpolate", "first": "brain MRI", "second": "chest CT", "frames": 3},
    {"kind": "image-to-image", "prompt": "a chest X-ray", "image": PICTURE},
    {"kind": "inpaint", "prompt": "a mole", "image": PICTURE, "ellipses": ["0.5,0.5,0.2,0.2"]},
]


async def client(number: int, http: httpx2.AsyncClient, until: float, seen: Seen) -> None:
    rng = random.Random(number)
    mine: list[str] = []
    while time.monotonic() < until:
        await asyncio.sleep(rng.uniform(0.2, 2.0))
        draw = rng.random()
        if draw < 0.35:
            answer = await ask(http, seen, "POST", "/api/v1/jobs", json=SHARED | rng.choice(BODIES))
            if answer.status_code == 202:
                mine.append(answer.json()["id"])
                seen.jobs.add(mine[-1])
        elif draw < 0.5 and mine:
            async with http.stream("GET", f"/api/v1/jobs/{mine[-1]}/events") as lines:
                async for _ in lines.aiter_lines():
                    if time.monotonic() > until:
                        break
        elif draw < 0.55 and mine:
            await ask(http, seen, "DELETE", f"/api/v1/jobs/{mine.pop()}", also=(409,))
        elif draw < 0.554:
            await look(http, seen, rng, delete=True)
        elif draw < 0.9:
            await look(http, seen, rng, delete=False)
        else:
            await ask(
                http, seen, "GET", rng.choice(["/api/v1/models", "/api/v1/health", "/api/v1/jobs"])
            )


async def look(http: httpx2.AsyncClient, seen: Seen, rng: random.Random, *, delete: bool) -> None:
    found = (await ask(http, seen, "GET", "/api/v1/images?words=a&limit=20")).json()["images"]
    if not found:
        return
    image = rng.choice(found)
    if delete:
        answer = await ask(http, seen, "DELETE", f"/api/v1/images/{image['id']}", also=(404, 409))
        if answer.status_code == 204:
            seen.deleted[image["job"]] += 1
        return
    answer = await ask(http, seen, "GET", f"/api/v1/images/{image['id']}", also=(404,))
    right = hashlib.sha256(answer.content).hexdigest() == image["sha256"]
    if answer.status_code == 200 and not right:
        seen.wrong.append(f"image {image['id']} has another hash")


async def ask(
    http: httpx2.AsyncClient,
    seen: Seen,
    method: str,
    path: str,
    *,
    also: tuple[int, ...] = (),
    **body: Any,
) -> httpx2.Response:
    begun = time.monotonic()
    answer = await http.request(method, path, **body)
    seen.seconds.append(time.monotonic() - begun)
    seen.statuses[answer.status_code] += 1
    if answer.status_code >= 400 and answer.status_code not in (429, *also):
        seen.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
    return answer


async def all_clients(server: Server, clients: int, seconds: float, seen: Seen) -> Memory:
    until, memory = time.monotonic() + seconds, Memory()
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=server.base, headers=server.headers, timeout=60, limits=limits
    ) as http:
        tasks = [asyncio.create_task(client(k, http, until, seen)) for k in range(clients)]
        while time.monotonic() < until:
            await asyncio.sleep(min(5, seconds / 10))
            memory.server.append(server.memory())
            memory.worker.append(server.memory(server.worker()))
        await asyncio.gather(*tasks)
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--without-model", action="store_true", help="The worker of the tests.")
    args = parser.parse_args()
    seen = Seen()
    with Server(args.model, draws=not args.without_model) as server:
        server.wait_ready()
        memory = asyncio.run(all_clients(server, args.clients, args.minutes * 60, seen))
        jobs = [server.ended(id) for id in seen.jobs]
        images = check(server, jobs, seen)
    figures = {
        "requests": sum(seen.statuses.values()),
        "statuses": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong[:20],
        "jobs": dict(Counter(job["state"] for job in jobs)),
        "images_with_their_hash": images,
        "images_deleted": seen.deleted.total(),
        "seconds_of_a_request": {
            "median": round(statistics.median(seen.seconds), 3),
            "slowest": round(max(seen.seconds), 2),
        },
        "memory_mb": memory.figures(),
        "load_of_the_machine": [round(load, 1) for load in os.getloadavg()],
    }
    print(json.dumps(figures, indent=1))
    record(args.out, "load", figures, vars(args) | {"out": str(args.out)})


def check(server: Server, jobs: list[dict[str, Any]], seen: Seen) -> int:
    """How many images are there with their hash; whatever is not is put down as wrong."""
    right = 0
    for job in jobs:
        if job["state"] == "failed":
            seen.wrong.append(f"job {job['id']}: {job['error']}")
        for image in job["images"]:
            content = server.client.get(f"/api/v1/images/{image['id']}").content
            about = server.get(f"/api/v1/images/{image['id']}/about")
            if hashlib.sha256(content).hexdigest() == about["sha256"]:
                right += 1
            else:
                seen.wrong.append(f"image {image['id']} has another hash")
        lacks = job["total"] - len(job["images"]) - seen.deleted[job["id"]]
        if job["state"] == "done" and lacks:
            seen.wrong.append(f"job {job['id']} lacks {lacks} images that nobody deleted")
    return right


if __name__ == "__main__":
    run(main)
