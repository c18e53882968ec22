"""Everything that waits for a GPU, one part after another, in one JSON: see gpu.sh, which calls it.

    python -m benchmarks.gpu --out OUT [--tiny] [--only PART,...] [--seconds 540] [--peer FOLDER]
    python -m benchmarks.gpu --check | --rows OUT/gpu.json

A part is a process that another benchmark or pytest runs in. It ends in one of these ways: done,
failed, out of time, not begun (no time left), missing (what it needs is not here), not needed. Rows for
RECORDS.md are printed at the end.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import Part, Place, parts_of, shown, stand_in
from benchmarks.gpu_rows import rows_of
from benchmarks.recording import record

ROOT = Path(__file__).resolve().parents[1]
SHORTEST = 15.0  # seconds: a part that has less left is not begun
GRACE = 5.0  # seconds for a part to end what it has started, once its time is over
TAIL = 40  # lines of a part's output that are kept
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")


@dataclass
class Result:
    """What became of a part."""

    name: str
    command: str
    state: str  # done, failed, out of time, not begun, missing, not needed
    said: list[str] = field(default_factory=list)  # the last lines, or what is missing
    seconds: float = 0.0
    peak_gb: float | None = None  # that torch allocated in the part's own process
    used_gb: float | None = None  # that was in use on the GPU, by all processes
    documents: list[dict[str, Any]] = field(default_factory=list)  # the benchmark's own JSON
    counts: dict[str, int] = field(default_factory=dict)  # of tests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="on a CPU, with shapes of no use")
    parser.add_argument("--check", action="store_true", help="say what is missing, run nothing")
    parser.add_argument("--rows", type=Path, help="print the rows of this gpu.json, run nothing")
    parser.add_argument("--only", help="names of parts, with commas")
    parser.add_argument("--seconds", type=float, default=540, help="for everything")
    parser.add_argument("--started", type=float, default=time.time(), help="since 1970")
    parser.add_argument("--peer", type=Path, default=ROOT / ".whl" / "peer")
    parser.add_argument("--work", type=Path, help="a folder for networks and images; 10 GB")
    args = parser.parse_args()
    if args.rows:
        print("\n".join(rows_of(json.loads(args.rows.read_text()))))
        return
    if not (args.out or args.check):
        parser.error("--out is missing")
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        out = (args.out or Path(work) / "out").absolute()
        place = Place(Path(work), out, args.peer.absolute(), args.tiny)
        parts = chosen(parts_of(place), args.only)
        lacks = tell_missing(parts, place)
        if args.check:
            raise SystemExit(1 if lacks else 0)
        if not args.tiny and no_gpu():
            raise SystemExit("error: no GPU: --tiny tries the parts without one")
        stand_in(place)
        results = run_parts(parts, place, args.started + args.seconds)
    document = json.loads((out / "gpu.json").read_text())
    print("\n" + "\n".join(f"{each.name}: {each.state}, {each.seconds:.0f} s" for each in results))
    print("\n" + "\n".join(rows_of(document)))


def chosen(parts: Sequence[Part], only: str | None) -> list[Part]:
    """The parts named in `only`, all without it."""
    known = {part.name: part for part in parts}
    names = only.split(",") if only else list(known)
    if wrong := [name for name in names if name not in known]:
        raise SystemExit(f"error: no part {wrong[0]}: choose of {', '.join(known)}")
    return [known[name] for name in names]


def tell_missing(parts: Sequence[Part], place: Place) -> bool:
    """Print, before anything runs, what is not here; whether that is something."""
    lines = [f"of pyproject.toml: {line}" for line in unmet_dependencies()]
    if no_gpu():
        lines.append("a GPU that PyTorch sees")
    if not place.script("train_text_to_image.py"):
        lines.append(f"diffusers' training scripts in {place.peer}: training has no peer")
    if not place.has_text_encoder:
        lines.append("mini's text encoder: one of random weights stands in")
    for part in parts:
        lines += [f"{name}: part {part.name} does not run" for name in missing(part)]
    print("\n".join(f"missing: {line}" for line in lines) or "nothing is missing", flush=True)
    return bool(lines)


def no_gpu() -> bool:
    if find_spec("torch") is None:
        return True
    import torch

    return not torch.cuda.is_available()


def unmet_dependencies() -> list[str]:
    """What the package needs and this Python lacks, or has in an older version."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = []
    for wanted in map(Requirement, project["dependencies"]):
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            lines.append(str(wanted))
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            lines.append(f"{wanted} (here: {found})")
    return lines


def missing(part: Part) -> list[str]:
    """Modules that a part needs and this Python lacks."""
    return [name for name in part.needs if find_spec(name) is None]


def run_parts(parts: Sequence[Part], place: Place, deadline: float) -> list[Result]:
    """Each part in turn, until `deadline` (seconds since 1970); OUT/gpu.json after each."""
    results: list[Result] = []
    for part in parts:
        left = deadline - time.time()
        failed = {each.name for each in results if each.state != "done"}
        result = Result(part.name, shown(part, place), "not begun")
        if lacks := missing(part):
            result.state, result.said = "missing", lacks
        elif part.instead_of and part.instead_of not in failed:
            result.state = "not needed"
        elif left > min(SHORTEST, part.seconds):
            print(f"\n== {part.name}, {min(left, part.seconds):.0f} s at most", flush=True)
            run_part(part, place, min(left, part.seconds), result)
        results.append(result)
        settings = {"tiny": place.tiny, "text encoder of mini": place.has_text_encoder}
        record(place.out, "gpu", [asdict(each) for each in results], settings)
    return results


def run_part(part: Part, place: Place, seconds: float, result: Result) -> None:
    """Run a part for `seconds` at most, and note in `result` what became of it."""
    folder = place.work / "parts" / part.name
    folder.mkdir(parents=True)
    note, log = folder / "memory.json", folder / "output.txt"
    words = [word.format(OUT=folder, MINUTES=(seconds - GRACE) / 60) for word in part.command]
    command = [sys.executable, "-m", "benchmarks.train.watched", str(note), *words]
    started = time.monotonic()
    with log.open("wb") as output, memory_in_use(result):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
            result.state = "failed" if code else "done"
        except subprocess.TimeoutExpired:
            result.state = "out of time"
        finally:
            end(process)
    result.seconds = round(time.monotonic() - started, 1)
    text = log.read_bytes()[-20_000:].decode(errors="replace").replace("\r", "\n")
    result.said = [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-TAIL:]
    if result.said:
        found = COUNTS.findall(result.said[-1]) if words[0] == "pytest" else []
        result.counts = {what.rstrip("s"): int(count) for count, what in found}
    peak = json.loads(note.read_text()).get("allocated") if note.exists() else None
    result.peak_gb = round(peak / 1e9, 2) if peak else None
    documents = [path for path in sorted(folder.glob("*.json")) if path != note]
    result.documents = [json.loads(path.read_text()) for path in documents]
    print("\n".join(result.said), flush=True)


@contextmanager
def memory_in_use(result: Result) -> Iterator[None]:
    """Note the most memory in use on the GPU, where nvidia-smi tells it."""
    if not shutil.which("nvidia-smi"):
        yield
        return
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    with tempfile.TemporaryFile("w+") as told:
        meter = subprocess.Popen([*command, "--loop-ms=500"], stdout=told)
        try:
            yield
        finally:
            meter.kill()
            meter.wait()
            told.seek(0)
            used = [int(line) for line in told if line.strip().isdigit()]  # MiB
            result.used_gb = round(max(used) * 2**20 / 1e9, 2) if used else None


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process with all that it started: it is asked first, since only it knows them all."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    main()
