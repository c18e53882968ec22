"""How time and memory of each stage grow with the data: 1x, 10x and, by drawn or made-up data, 100x.

    python -m benchmarks.growth.run --work WORK --out OUT [--stages NAME ...] [--sizes N ...]

Every size of a stage is a process of its own; what it needs is made before and not measured. Figures
are processor seconds and the process's own memory (see `measuring.py`), and the exponents b of
a size^b between the two largest sizes, where what is spent once counts least. Runs add up:
OUT/growth.json keeps what earlier ones measured, so that the stages can be measured one by one, and
`--stages` without a name prints what is there. `--profile` says where the time goes instead.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.growth.measuring import Stage, exponent, measure
from benchmarks.recording import record, table

NAME = "growth"
ROOMS = ("pairs", "latents", "guard", "evaluate", "synthesize", "serve", "study")
Figures = dict[str, dict[str, dict[str, Any]]]  # stage -> size -> what was measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stages", nargs="*", help="by name or by room; without, all")
    parser.add_argument("--sizes", nargs="+", type=int, help="instead of each stage's own")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.sizes[0], args.work, profiled=args.profile)
        return
    figures = earlier(args.out)
    wanted = args.stages if args.stages is not None else list(ROOMS)
    for room in ROOMS if wanted else ():
        if any(room == name.partition(":")[0] for name in wanted):
            for name, stage in stages(room).items():
                if {room, name}.intersection(wanted):
                    for size in args.sizes or stage.sizes:
                        found = apart(name, size, args.work, profiled=args.profile)
                        figures.setdefault(name, {})[str(size)] = found
                        print(name, json.dumps(found), flush=True)
                        if not args.profile:
                            record(args.out, NAME, figures, {"cores": os.cpu_count()})
    table([["stage", "size", "seconds", "MiB", "time ~", "memory ~"], *lines(figures)])


def stages(room: str) -> Mapping[str, Stage]:
    """The stages of a room, by `room: step`."""
    return import_module(f"benchmarks.growth.of_{room}").STAGES


def apart(name: str, size: int, work: Path, *, profiled: bool = False) -> dict[str, Any]:
    """One size of a stage in a process of its own; what that leaves in `work` is removed."""
    folder = work / f"{name.replace(': ', '-').replace(' ', '-')}-{size}"
    command = [sys.executable, "-m", "benchmarks.growth.run", "--one", name, "--sizes", str(size)]
    command += ["--work", str(folder), "--out", str(work), *["--profile"] * profiled]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    *said, last = done.stdout.splitlines()
    print("\n".join(said[:60]) if profiled else "", end="")
    return json.loads(last)


def one(name: str, size: int, folder: Path, *, profiled: bool) -> None:
    """Print what `measure` finds, last, and a profile before it."""
    stage = stages(name.partition(":")[0])[name]
    if not profiled:
        print(json.dumps(measure(stage, size, folder)))
        return
    import cProfile
    import pstats
    from dataclasses import replace

    profile = cProfile.Profile()
    work = stage.work

    def watched(*given: Any) -> dict[str, Any] | None:
        return profile.runcall(work, *given)

    found = measure(replace(stage, work=watched), size, folder)
    pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    print(json.dumps(found))


def earlier(out: Path) -> Figures:
    """What runs before this one have measured."""
    path = out / f"{NAME}.json"
    return json.loads(path.read_text())["figures"] if path.is_file() else {}


def lines(figures: Figures) -> list[Sequence[Any]]:
    """A line for each size of each stage, with the exponents from the size before it."""
    found: list[Sequence[Any]] = []
    for name, by_size in figures.items():
        before: dict[str, Any] | None = None
        for size in sorted(map(int, by_size)):
            here = by_size[str(size)]
            both = [before, here] if before else []
            growth = [
                exponent([each["size"] for each in both], [each[what] for each in both])
                for what in ("seconds", "MiB")
            ]
            found.append([name, f"{size:,}", here["seconds"], here["MiB"], *growth])
            before = here
    return found


if __name__ == "__main__":
    main()
