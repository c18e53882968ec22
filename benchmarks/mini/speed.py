"""How long a user waits: help, a first image from a cold start, then images one after another.

    python -m benchmarks.mini.speed --out OUT [--model mini] [--images 8]

Cold times are wall-clock times of new processes, best and median of several (the first may read
the disk, the others find it cached); peak memory is the process's largest resident set. Close
other programs first, or the figures are theirs too.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import vesalius
from benchmarks.recording import record, run, table
from vesalius.errors import VesaliusError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--prompt", default="chest X-ray, frontal view")
    parser.add_argument("--images", type=int, default=8, help="images timed after loading")
    args = parser.parse_args()

    rows: list[list[Any]] = [["what", "best s", "median s", "peak MiB"]]
    # its peak is left out: a short-lived child's figure is that of this process, which forked it
    rows.append(["vesalius --help", *cold(["--help"], 5)[:2], ""])
    with tempfile.TemporaryDirectory() as folder:
        command = ["generate", args.prompt, "--model", args.model, "--overwrite"]
        rows.append(["vesalius generate, cold", *cold([*command, "--out", f"{folder}/one"], 3)])

    start = time.perf_counter()
    model = vesalius.load(args.model)
    loading = time.perf_counter() - start
    rows.append(["loading the model", loading, loading, ""])
    model.generate([args.prompt])  # the first run allocates and picks kernels
    for batch_size in (1, 4):
        seconds = []
        for turn in range(max(1, args.images // batch_size)):
            start = time.perf_counter()
            model.generate([args.prompt], n=batch_size, seed=turn, batch_size=batch_size)
            seconds.append((time.perf_counter() - start) / batch_size)
        best, median = min(seconds), statistics.median(seconds)
        rows.append([f"an image, batch {batch_size}", best, median, ""])
    table(rows)
    figures = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    settings = {
        "model": args.model,
        "model_hash": model.generator.model_hash,
        **{key: model.generator.settings.get(key) for key in ("steps", "guidance", "size")},
    }
    record(args.out, "speed", figures, settings)


def cold(arguments: list[str], repeats: int) -> tuple[float, float, float]:
    """Run `vesalius ...` in new processes: best and median seconds, largest peak memory in MiB."""
    seconds, peaks = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "vesalius", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        message = process.stderr.read().decode() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)  # the child's own peak, which Popen hides
        seconds.append(time.perf_counter() - start)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise VesaliusError(f"vesalius {' '.join(arguments)} failed: {message.strip()}")
        scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        peaks.append(usage.ru_maxrss * scale / 2**20)
    return min(seconds), statistics.median(seconds), max(peaks)


if __name__ == "__main__":
    run(main)
