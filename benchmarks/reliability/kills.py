"""Commands killed at random moments and begun again: is anything lost, torn or left over?

    python -m benchmarks.reliability.kills --out OUT [--kills 100] [--seed 0] [--commands pairs train synthesize]

Each command runs once undisturbed. Then it runs in a process of its own (a fork, which has imported
everything already), is killed (SIGKILL) at a random moment, and the command that a user would give
goes on; after one to four kills it is left to end. Its folder must then hold the same files as the
undisturbed one, and the same bytes in all but those that hold times. Prints, and writes to
kills.json, the kills, the lives and what differed.
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.recording import record, table
from benchmarks.reliability.inputs import make_png
from benchmarks.train.material import TINY, write_generator
from vesalius.cli import app
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.synthesize.plan import PlanRow, write_plan

_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Command:
    """A command by what its arguments are for an output, the first time and later."""

    name: str
    output: str
    first: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    timed: tuple[str, ...]  # names of files whose bytes hold times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="*", default=["pairs", "train", "synthesize"])
    args = parser.parse_args()
    rng, begun = random.Random(args.seed), time.perf_counter()
    rows: list[list[Any]] = [["command", "kills", "lives", "undisturbed s", "differences"]]
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        commands = [one for one in make_commands(Path(folder)) if one.name in args.commands]
        for number, command in enumerate(commands):
            share = args.kills // len(commands) + (number < args.kills % len(commands))
            lives, seconds, found = endure(command, Path(folder), share, rng)
            rows.append([command.name, share, lives, seconds, len(found)])
            faults += found
    table(rows)
    print("\n".join(faults[:40]))
    figures = {
        "commands": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]],
        "faults": faults,
    }
    figures |= {"s": time.perf_counter() - begun}
    record(args.out, "kills", figures, {**vars(args), "out": None})


def make_commands(work: Path) -> list[Command]:
    """What the commands need, and the commands."""
    for number in range(120):
        path = work / "images" / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_png(number))
    build_pairs(
        [str(work / "images")], work / "table.parquet", PairsSettings(split="val=0.2"), samples=0
    )
    write_generator(work / "model", TINY)
    optimisation = {"seen_images": 320, "batch": 8, "lr": 1e-3, "schedule": "constant"}
    optimisation |= {"precision": "float32", "validation_size": 8}
    optimisation |= {"validate_images": 80, "checkpoint_images": 40}
    recipe = {"method": "lora", "name": "kills", "model": str(work / "model"), "size": 32}
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"optimisation": optimisation}))
    rows = [PlanRow(k, f"a smear, view {k}", "a", k, steps=2) for k in range(24)]
    write_plan(rows, work / "plan.csv")

    def pairs(out: Path) -> list[str]:
        command = ["pairs", str(work / "images"), "--out", str(out / "pairs.parquet")]
        return [*command, "--split", "val=0.2", "--text-encoder", "none"]

    def train(out: Path) -> list[str]:
        command = ["train", str(work / "recipe.yaml"), "--pairs", str(work / "table.parquet")]
        return [*command, "--out", str(out / "run"), "--device", "cpu"]

    def synthesize(out: Path) -> list[str]:
        command = ["synthesize", str(work / "plan.csv"), "--model", str(work / "model")]
        return [*command, "--out", str(out / "set"), "--chunk", "4", "--device", "cpu"]

    return [
        Command("pairs", "pairs.parquet", pairs, pairs, ()),
        Command(
            "train",
            "run",
            train,
            lambda out: [*train(out), "--resume"],
            ("log.jsonl", "state.json"),
        ),
        Command("synthesize", "set", synthesize, synthesize, ("about.json",)),
    ]


def endure(
    command: Command, work: Path, kills: int, rng: random.Random
) -> tuple[int, float, list[str]]:
    """So many kills of a command: lives until it ended, seconds undisturbed, and what differed."""
    whole = work / f"{command.name}-whole"
    begun = time.perf_counter()
    if failed := _end(_start(command.first(whole), work / "log"), work / "log"):
        return 0, 0.0, [f"{command.name}: {failed}"]
    seconds, expected = time.perf_counter() - begun, contents(whole, command.timed)
    faults, done, lives = [], 0, 0
    while done < kills:
        out, first = work / f"{command.name}-{lives}", True
        wanted, failed = min(rng.randint(1, 4), kills - done), ""
        while wanted:
            process = _start((command.first if first else command.again)(out), work / "log")
            process.join(rng.uniform(0, seconds))
            if process.is_alive():
                process.kill()
                done, wanted = done + 1, wanted - 1
                _end(process, work / "log")
            elif failed := _end(process, work / "log"):
                break
            else:
                first = False  # it ended before: another life
                break
            # nothing may have been made yet, so that only the first form of the command fits
            first = not (out / command.output).exists()
        failed = failed or _end(
            _start((command.first if first else command.again)(out), work / "log"), work / "log"
        )
        lives += 1
        where = f"{command.name}, life {lives}"
        if failed:
            faults.append(f"{where}: {failed}")
        found = contents(out, command.timed)
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                what = (
                    "is left over"
                    if name not in expected
                    else "is lost"
                    if name not in found
                    else "differs"
                )
                faults.append(f"{where}: {name} {what}")
        shutil.rmtree(out, ignore_errors=True)
    return lives, seconds, faults


def contents(folder: Path, timed: tuple[str, ...]) -> dict[str, str]:
    """Hashes of all files by name; of those that hold times the name alone."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): ""
        if path.name in timed
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _start(arguments: list[str], log: Path) -> Any:
    process = _FORK.Process(target=_run, args=(arguments, log))
    process.start()
    return process


def _run(arguments: list[str], log: Path) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        code = 0
        with contextlib.suppress(SystemExit):
            code = app(arguments, standalone_mode=False) or 0
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(code))


def _end(process: Any, log: Path) -> str:
    """Wait; the last line of what it said where it failed by itself."""
    process.join()
    if process.exitcode in (0, -9):
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"exit code {process.exitcode}: {lines[-1] if lines else ''}"


if __name__ == "__main__":
    main()
