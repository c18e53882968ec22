"""Server and worker killed at random moments: is anything lost that a client was told?

    python -m benchmarks.serve.kills --out OUT [--kills 200] [--seed 0] [--model mini] [--without-model]

Jobs are asked for all the time. At random moments the worker, or the server itself, gets a SIGKILL;
the server is then started again on its library. In the end every job that was acknowledged must be
done, and each of its images, and every image that was ever told of, must be there with its hash.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.recording import record, run
from benchmarks.serve.server import Server


def told(server: Server, known: dict[str, str]) -> None:
    """Remember every image that the library lists."""
    for image in server.get("/api/v1/images?limit=200")["images"]:
        known.setdefault(image["id"], image["sha256"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--servers", type=float, default=0.2, help="Share that hits the server.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--without-model", action="store_true", help="The worker of the tests.")
    args = parser.parse_args()
    rng, begun = random.Random(args.seed), time.monotonic()
    acknowledged, known = list[str](), dict[str, str]()
    killed = {"server": 0, "worker": 0}
    with Server(args.model, draws=not args.without_model) as server:
        while sum(killed.values()) < args.kills:
            until = time.monotonic() + rng.uniform(0.05, 1.5)
            while time.monotonic() < until:
                ask(server, rng, acknowledged)
                told(server, known)
                time.sleep(0.05)
            if rng.random() < args.servers:
                server.stop(signal.SIGKILL)
                killed["server"] += 1
                server.start()
            else:
                # a worker that has not drawn anything yet is left to load its model
                while (worker := server.worker()) is None or is_loading(server):
                    time.sleep(0.02)
                time.sleep(rng.uniform(0, 0.6))
                os.kill(worker, signal.SIGKILL)
                killed["worker"] += 1
        jobs = [server.ended(id) for id in acknowledged]
        faults = check(server, jobs, known)
        integrity = len(list((server.library / "uploads").glob("*")))
    figures = {
        "kills": killed,
        "jobs_acknowledged": len(acknowledged),
        "images": sum(job["total"] for job in jobs),
        "faults": faults,
        "uploads_left": integrity,
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(figures, indent=1))
    record(args.out, "kills", figures, vars(args) | {"out": str(args.out)})


def is_loading(server: Server) -> bool:
    return server.get("/api/v1/health")["status"] == "loading"


def ask(server: Server, rng: random.Random, acknowledged: list[str]) -> None:
    body = {"kind": "generate", "prompt": "a chest X-ray", "n": rng.randint(1, 6), "steps": 4}
    try:
        answer = server.client.post("/api/v1/jobs", json=body)
    except httpx2.HTTPError:
        return
    if answer.status_code == 202:
        acknowledged.append(answer.json()["id"])


def check(server: Server, jobs: list[dict[str, Any]], known: dict[str, str]) -> list[str]:
    faults = [
        f"job {job['id']} {job['state']}: {job['error']}" for job in jobs if job["state"] != "done"
    ]
    for job in jobs:
        if len(job["images"]) != job["total"]:
            faults.append(f"job {job['id']} has {len(job['images'])} of {job['total']} images")
        for image in job["images"]:
            known.setdefault(
                image["id"], server.get(f"/api/v1/images/{image['id']}/about")["sha256"]
            )
    for id, sha256 in known.items():
        answer = server.client.get(f"/api/v1/images/{id}")
        if answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != sha256:
            faults.append(f"image {id}: {answer.status_code}, or another content")
    return faults


if __name__ == "__main__":
    run(main)
