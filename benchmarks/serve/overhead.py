"""What the server costs: eight images of a job beside the same by the functions of `vesalius generate`.

    python -m benchmarks.serve.overhead --out OUT [--rounds 8] [--images 8] [--steps 6] [--model mini]

In turns: a job from its request to the event that it is done, and `generate_to_folder` with a loaded
model in a process of its own, both warm. Time is by the clock; processor time, that of both processes
of the server, tells where other work goes on beside it. Images must be equal to the byte. Also:
seconds from the command to an answer and to a first image, and what previews cost a job.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.recording import record, run
from benchmarks.serve.server import Server

_PROMPT = "a chest X-ray, pneumonia"
_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peer(pipe: Connection, model: str, images: int, steps: int) -> None:
    """`vesalius generate` with its model in memory: a line of seconds and hashes for each seed."""
    from vesalius.sample.folder import generate_to_folder
    from vesalius.sample.generate import load
    from vesalius.sample.settings import GenerateSettings

    loaded = load(model)
    pipe.send("ready")
    with tempfile.TemporaryDirectory() as folder:
        while (seed := pipe.recv()) is not None:
            begun, used = time.perf_counter(), time.process_time()
            settings = GenerateSettings(n=images, seed=seed, steps=steps)
            made = generate_to_folder(_PROMPT, Path(folder) / str(seed), settings, model=loaded)
            took = (time.perf_counter() - begun, time.process_time() - used)
            pipe.send((*took, [row["sha256"] for row in made.rows]))


def by_server(server: Server, images: int, steps: int, seed: int) -> tuple[float, float, list[str]]:
    worker = server.worker()
    assert worker
    pids = (server.process.pid, worker)
    begun, used = time.perf_counter(), sum(map(processor_seconds, pids))
    job = server.draw(kind="generate", prompt=_PROMPT, n=images, steps=steps, seed=seed)
    took = time.perf_counter() - begun, sum(map(processor_seconds, pids)) - used
    ids = [image["id"] for image in job["images"]]
    return *took, [server.get(f"/api/v1/images/{id}/about")["sha256"] for id in ids]


def preview_cost(model: str, steps: int) -> dict[str, float]:
    """Processor seconds of a look at four images, and of drawing them."""
    import torch

    from vesalius.sample.generate import load
    from vesalius.sample.settings import DrawSettings
    from vesalius.serve.preview import find_preview

    loaded = load(model)
    preview, vae = find_preview(loaded.generator.vae), loaded.generator.vae
    requests = loaded.requests(_PROMPT, 4, DrawSettings(steps=steps))
    list(loaded.draw(requests))  # the first is slower
    begun = time.process_time()
    list(loaded.draw(requests))
    drawing = time.process_time() - begun
    cells = [side // loaded.generator.vae_factor for side in loaded.generator.native_size]
    latents = torch.randn(4, vae.config.latent_channels, *cells[::-1])
    preview.pngs(latents)
    begun = time.process_time()
    for _ in range(50):
        preview.pngs(latents)
    look = (time.process_time() - begun) / 50
    share = look * steps / drawing  # with a look at each step, which is more than there are
    return {
        "look_ms": round(look * 1000, 2),
        "drawing_s": round(drawing, 2),
        "share": round(share, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--model", default="mini")
    args = parser.parse_args()
    begun = time.monotonic()
    rows: list[dict[str, Any]] = []
    with Server(args.model) as server:
        answers = server.seconds_to_answer
        server.draw(kind="generate", prompt=_PROMPT, n=1)
        first = time.monotonic() - begun
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        rest = (theirs, args.model, args.images, args.steps)
        process = context.Process(target=peer, args=rest, daemon=True)
        process.start()
        ours.recv()
        for seed in range(args.rounds + 1):
            turn = {}
            for who in ("serve", "generate") if seed % 2 else ("generate", "serve"):
                if who == "serve":
                    turn[who] = by_server(server, args.images, args.steps, seed)
                else:
                    ours.send(seed)
                    turn[who] = ours.recv()
            assert turn["serve"][2] == turn["generate"][2], "the images differ"
            if seed:  # the first turn warms both up
                rows.append({who: turn[who][:2] for who in turn})
        ours.send(None)
    ratios = [row["serve"][0] / row["generate"][0] for row in rows]
    used = [row["serve"][1] / row["generate"][1] for row in rows]
    figures = {
        "seconds_to_answer": round(answers, 2),
        "seconds_to_first_image": round(first, 2),
        "generate_seconds": round(statistics.median(row["generate"][0] for row in rows), 3),
        "serve_seconds": round(statistics.median(row["serve"][0] for row in rows), 3),
        "overhead_by_clock": round(statistics.median(ratios) - 1, 4),
        "overhead_by_processor_time": round(statistics.median(used) - 1, 4),
        "images_equal": True,
        "preview": preview_cost(args.model, args.steps),
    }
    print(json.dumps(figures, indent=1))
    record(args.out, "overhead", figures, vars(args) | {"out": str(args.out), "rows": rows})


if __name__ == "__main__":
    run(main)
