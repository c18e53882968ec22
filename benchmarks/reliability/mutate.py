"""Mutated inputs of every kind of file through every door: is anything but one line said?

    python -m benchmarks.reliability.mutate --out OUT [--count 20000] [--seed 0] [--kinds adapter ...]

Each mutation is a function of the seed and its number. A process of its own opens it: it is read,
or refused by a VesaliusError, whose message is one line on the command line; anything else that is
raised is a traceback, over 20 s a hang, over 3 GB more than an idle process holds an exhaustion. Prints,
and writes to mutate.json, how many of each kind were what, and where those that fell came from.
"""

import argparse
import collections
import multiprocessing
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.recording import record, table
from benchmarks.reliability.inputs import Case, make_cases
from benchmarks.reliability.inputs_of_stages import make_further_cases
from benchmarks.reliability.mutations import mutated
from vesalius.errors import VesaliusError

SECONDS, BYTES = 20, 3_000_000_000
LINE = 2_000  # characters: what is longer is no clear line
SLOW = ("model folder",)  # opened in a fraction of a second: one in so many
RARE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[], help="beginnings of names; all without")
    args = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "inputs").mkdir()
        (work / "more").mkdir()
        cases = make_cases(work / "inputs")
        cases += make_further_cases(work / "more", work / "inputs")
        if args.kinds:
            cases = [case for case in cases if case.kind.startswith(tuple(args.kinds))]
        counts, fallen = run(cases, work, args.count, args.seed)
    names = ("read", "refused", "traceback", "hang", "exhaustion")
    rows = [[kind, *(counts[kind][name] for name in names)] for kind in sorted(counts)]
    total = ["all", *(sum(row[k] for row in rows) for k in range(1, 6))]
    table([["kind", *names], *rows, total])
    for where, number in fallen.most_common(40):
        print(f"{number:6} {where}")
    figures = {"counts": counts, "fallen": fallen, "s": time.perf_counter() - begun}
    record(args.out, "mutate", figures, {**vars(args), "out": None})


def run(
    cases: list[Case], work: Path, count: int, seed: int
) -> tuple[Any, collections.Counter[str]]:
    """Open `count` mutations; answers by kind, and how often something fell where."""
    context = multiprocessing.get_context("fork")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    fallen: collections.Counter[str] = collections.Counter()
    number = 0
    while number < count:
        mine, theirs = context.Pipe()
        worker = context.Process(target=_work, args=(theirs, cases, work, number, count, seed))
        worker.start()
        theirs.close()
        while number < count:
            answer, where = "hang", ""
            try:
                if mine.poll(SECONDS):
                    answer, where = mine.recv()
            except EOFError:
                answer, where = "traceback", "the process died"
            kind = chosen(cases, number, seed)[0].kind
            counts[kind][answer] += 1
            if answer not in ("read", "refused"):
                fallen[
                    f"{kind}: {answer} {where} (number {number})"
                    if not where
                    else f"{kind}: {answer} {where}"
                ] += 1
            number += 1
            if answer in ("hang", "exhaustion") or where == "the process died":
                break
        worker.kill()
        worker.join()
    return counts, fallen


def chosen(cases: list[Case], number: int, seed: int) -> tuple[Case, random.Random]:
    """The case of a number, and the draws that mutate it."""
    rng = random.Random(f"{seed}-{number}")
    case = rng.choice(cases)
    if case.kind in SLOW and rng.randrange(RARE):
        case = rng.choice([one for one in cases if one.kind not in SLOW] or cases)
    return case, rng


def _work(
    pipe: Connection, cases: list[Case], work: Path, first: int, count: int, seed: int
) -> None:
    warnings.simplefilter("ignore")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_held() + BYTES, hard))
    for number in range(first, count):
        case, rng = chosen(cases, number, seed)
        room = work / f"try-{number}"
        room.mkdir()
        try:
            pipe.send(_opened(case, room, rng))
        finally:
            shutil.rmtree(room, ignore_errors=True)


def _opened(case: Case, room: Path, rng: random.Random) -> tuple[str, str]:
    target = room / case.root.name
    if case.root.is_dir():
        shutil.copytree(case.root, target)
    else:
        shutil.copyfile(case.root, target)
    file = target / case.file.relative_to(case.root) if case.root.is_dir() else target
    file.write_bytes(mutated(file.read_bytes(), file.suffix, rng))
    try:
        case.door(target)
    except VesaliusError as error:
        if len(str(error)) > LINE:
            return "traceback", _place(error).replace("VesaliusError", f"over {LINE:,} characters")
        return "refused", ""
    except MemoryError as error:
        return "exhaustion", _place(error)
    except BaseException as error:  # of Rust's libraries too
        return "traceback", _place(error)
    return "read", ""


def _place(error: BaseException) -> str:
    """What was raised, and the last line of the product that it passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "vesalius" in f.filename]
    last = frames[-1] if frames else None
    where = f"{Path(last.filename).name}:{last.lineno}" if last else "?"
    return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:90]}"


def _held() -> int:
    """Bytes of this process that RLIMIT_DATA counts."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))


if __name__ == "__main__":
    main()
