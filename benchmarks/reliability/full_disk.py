"""All commands on a disk that runs full: one line, nothing half-written, and on with room again?

    python -m benchmarks.reliability.full_disk --out OUT [--sizes 6] [--seed 0] [--commands pairs ...]

Needs root on Linux: each command writes onto a tmpfs. It runs twice undisturbed, then on disks that hold
a random part of what it writes. It must end with one line and exit code 2 (or 0, where it fits), leave no
temporary file, and come to the same as the undisturbed run once the disk is larger. Prints, and writes to
full_disk.json, how often each was refused and what was wrong.
"""

import argparse
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.recording import record, table
from benchmarks.reliability.commands import make_commands, small_networks, warm
from benchmarks.reliability.kills import DONE, Trial, contents, unlike

_ROOMY = 200_000_000  # bytes
_PAGE = 4096  # bytes, by which a tmpfs counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, default=6, help="of disks, for each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--commands", nargs="*", default=[], help="beginnings of names; all without"
    )
    args = parser.parse_args()
    begun, rng = time.monotonic(), random.Random(args.seed)
    small_networks()
    warm()
    rows: list[list[Any]] = [["command", "disks", "refused", "fitted", "KB written", "faults"]]
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for command in make_commands(Path(folder)):
            if not command.name.startswith(tuple(args.commands) or ""):
                continue
            trial = Trial(command, Path(folder), real=False)
            trial.undisturbed()
            refused, written = 0, 0
            for _ in range(args.sizes):
                with disk(Path(folder) / "disk") as place:
                    written = written or _written(trial, place)
                    refused += _filled(trial, place, int(rng.uniform(0, written)))
            rows.append([command.name, args.sizes, refused, args.sizes - refused])
            rows[-1] += [written / 1000, len(trial.faults)]
            print(*rows[-1], flush=True)
            faults += trial.faults
    table(rows)
    figures = {"commands": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]}
    figures |= {"faults": faults, "s": time.monotonic() - begun}
    record(args.out, "full_disk", figures, {**vars(args), "out": None})


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """A tmpfs at `place`, roomy at first."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOMY}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _resize(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def _written(trial: Trial, place: Path) -> int:
    """Bytes that the command leaves on a disk."""
    if failed := trial.end(trial.start(place / "sized", "")):
        trial.fault(f"undisturbed on a tmpfs: {failed}")
    size = sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in (place / "sized").rglob("*"))
    subprocess.run(["rm", "-r", place / "sized"], check=True)
    return size


def _filled(trial: Trial, place: Path, size: int) -> bool:
    """Run on a disk of `size` bytes, then on a roomy one; whether the small one was refused."""
    out = place / "out"
    out.mkdir()
    _resize(place, max(_PAGE, size // _PAGE * _PAGE))
    processes = trial.start(out, "")
    codes, said = trial.ended(processes)
    refused, where = any(codes), f"on {size / 1000:.0f} KB"
    for code, text in zip(codes, said, strict=True):
        last = text.strip().splitlines()[-1:] or [""]
        if code not in (0, 2) or "Traceback" in text or (code and "error: " not in last[0]):
            trial.fault(f"{where}: exit code {code}: {last[0][:300]}")
    left = [path.name for path in out.rglob(".*") if path.name != ".cache" and path.is_file()]
    if left:
        trial.fault(f"{where}: leaves {left[0]}")
    _resize(place, _ROOMY)
    option = trial.command.resumes if (out / "run").exists() else ""
    failed = trial.end(trial.start(out, option))
    if failed and not any(words in failed for words in DONE):
        trial.fault(f"{where}, with room again: {failed}")
    first, second = trial.wholes
    for what in unlike(first, second, contents(out)):
        trial.fault(f"{where}, with room again: {what}")
    return refused


if __name__ == "__main__":
    main()
