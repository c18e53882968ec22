"""All commands killed at random moments and begun again: is anything lost, torn or left over?

    python -m benchmarks.reliability.kills --out OUT [--kills 1000] [--real 100] [--seed 0] [--commands pairs ...]

Each command runs twice undisturbed; what differs between the two (times, and what holds times) is no
fault later. Then it runs in a process of its own, gets SIGKILL, SIGTERM or SIGINT at a random moment, and
the command that a user would give goes on; after one to eight signals it is left to end. Its folder must
then hold the same files as the undisturbed one, and the same in them. A process is a fork that has
imported everything already, or, for `--real` of the signals, `python -m vesalius` itself. A command that
was told to stop must end with one line and exit code 130. All commands
get the same time, so that short ones get more signals. Prints, and writes to kills.json, the signals, the
lives and what differed.
"""

import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.recording import record, table
from benchmarks.reliability.commands import Command, make_commands, run_here, small_networks, warm

_FORK = multiprocessing.get_context("fork")
_SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]
_MOST_FAULTS = 12  # of a command: what is broken needs no more tries
# A run that was told to stop saves a checkpoint of its own, and its log has the mean of fewer steps.
_FREE = re.compile(r"/checkpoints/\d+/|/log\.jsonl$")
DONE = ("exists already", "holds results already", "holds a report already")
_TIMES = re.compile(r"second|img_per_sec|rate$|\.steps\.\w+\.starts$")  # and how often it began
_SLOWEST = 120  # seconds of a command that goes on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument(
        "--real",
        type=int,
        default=100,
        help="of them to `python -m vesalius`; so many as --kills, or more: all",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600, help="stop after so many")
    parser.add_argument(
        "--commands", nargs="*", default=[], help="beginnings of names; all without"
    )
    args = parser.parse_args()
    begun = time.monotonic()
    small_networks()
    warm()
    rows: list[list[Any]] = [["command", "SIGKILL", "SIGTERM", "SIGINT", "lives", "s", "faults"]]
    faults: list[str] = []
    kinds = (False, True) if 0 < args.real < args.kills else (args.real > 0,)
    with tempfile.TemporaryDirectory() as folder:
        trials = [
            Trial(command, Path(folder), real)
            for command in make_commands(Path(folder))
            if command.name.startswith(tuple(args.commands) or "")
            for real in kinds
            if command.real or not real
        ]
        rng = random.Random(args.seed)
        while trials and sum(trial.counts.total() for trial in trials) < args.kills:
            if time.monotonic() - begun > 60 * args.minutes:
                break
            real = sum(trial.counts.total() for trial in trials if trial.real) < args.real
            trial = min((t for t in trials if t.real <= real), key=lambda t: (t.spent, t.name))
            trial.live(rng)
        for trial in trials:
            counts = [
                trial.counts[each] for each in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
            ]
            rows.append([trial.name, *counts, trial.lives, trial.seconds, len(trial.faults)])
            faults += trial.faults
    rows.append(["all", *(sum(row[k] for row in rows[1:]) for k in range(1, 7))])
    table(rows)
    print("\n".join(faults[:60]))
    figures = {"commands": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]}
    figures |= {"faults": faults, "s": time.monotonic() - begun}
    record(args.out, "kills", figures, {**vars(args), "out": None})


@dataclass
class Trial:
    """A command, as forks or as processes of its own."""

    command: Command
    work: Path
    real: bool
    counts: collections.Counter[int] = field(default_factory=collections.Counter)
    lives: int = 0
    seconds: float = 0.0  # undisturbed
    spent: float = 0.0  # seconds
    wholes: list[dict[str, Any]] = field(default_factory=list)  # what two undisturbed ones left
    faults: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.command.name}, python -m" if self.real else self.command.name

    def live(self, rng: random.Random) -> None:
        """Begin, send one to eight signals, let it end, and compare."""
        begun = time.monotonic()
        if not self.wholes:
            self.undisturbed()
        elif len(self.faults) < _MOST_FAULTS:
            self._disturbed(rng)
        self.spent += time.monotonic() - begun

    def undisturbed(self) -> None:
        """Run twice, to know what is made and how long it takes."""
        for number in range(2):
            whole, begun = self.work / f"{self._slug}-whole{number}", time.monotonic()
            if failed := self.end(self.start(whole, "")):
                self.fault(f"undisturbed: {failed}")
            self.seconds = time.monotonic() - begun
            self.wholes.append(contents(whole))
            shutil.rmtree(whole)

    def _disturbed(self, rng: random.Random) -> None:
        out, option = self.work / f"{self._slug}-{self.lives}", ""
        for _ in range(rng.randint(1, 8)):
            ended = self._interrupted(out, option, rng)
            option = self.command.resumes if (out / "run").exists() else ""
            if ended:
                break
        failed = self.end(self.start(out, option))
        self.lives += 1
        if failed and not any(words in failed for words in DONE):
            self.fault(failed)
        first, second = self.wholes
        for what in unlike(first, second, contents(out)):
            self.fault(what)
        shutil.rmtree(out, ignore_errors=True)

    def fault(self, what: str) -> None:
        """Keep and print what is wrong."""
        self.faults.append(f"{self.name}, life {self.lives}: {what}")
        print(self.faults[-1], flush=True)

    @property
    def _slug(self) -> str:
        return re.sub(r"\W+", "-", self.name)

    def _interrupted(self, out: Path, option: str, rng: random.Random) -> bool:
        """Begin, and send a signal at a random moment; whether it had ended by then."""
        processes = self.start(out, option)
        moment, sent = rng.uniform(0, self.seconds), rng.choice(_SIGNALS)
        time.sleep(moment)
        ended = True
        for number, process in enumerate(processes):
            if _code(process) is None:
                os.kill(process.pid, sent)
                ended = False
                self.counts[sent] += 1
            log = self._log(number)
            code = _wait(process)
            text = log.read_text(errors="replace")
            told = code == 130 and sent != signal.SIGKILL
            if (code in (0, -sent) or told) and "Traceback" not in text:
                continue
            if any(
                words in text for words in DONE
            ):  # what came before had ended, in the very moment
                continue
            said = f"{signal.Signals(sent).name} after {moment:.2f} s: exit code {code}"
            self.fault(f"{said}: {_last(log)}")
        return ended

    def start(self, out: Path, option: str) -> list[Any]:
        """Begin the command's processes."""
        out.mkdir(exist_ok=True)
        started = []
        for number, arguments in enumerate(self.command.arguments(out)):
            words = [*arguments, *([option] if option else [])]
            if self.real:
                places = {"HOME": str(out / "home"), "VESALIUS_WEIGHTS": str(out / "weights")}
                with self._log(number).open("w") as log:
                    started.append(
                        subprocess.Popen(
                            [sys.executable, "-m", "vesalius", *words],
                            stdout=log, stderr=log, env=os.environ | places,
                        )
                    )  # fmt: skip
            else:
                process = _FORK.Process(target=_run, args=(words, out, self._log(number)))
                process.start()
                started.append(process)
        return started

    def end(self, processes: list[Any]) -> str:
        """Wait; the last line of what one said that failed."""
        failed = ""
        for number, process in enumerate(processes):
            code = _wait(process)
            if code or "Traceback" in self._log(number).read_text(errors="replace"):
                failed = f"exit code {code}: {_last(self._log(number))}"
        return failed

    def ended(self, processes: list[Any]) -> tuple[list[int | None], list[str]]:
        """Exit codes, and what each process said."""
        codes = [_wait(process) for process in processes]
        return codes, [self._log(k).read_text(errors="replace") for k in range(len(processes))]

    def _log(self, number: int) -> Path:
        return self.work / f"log-{number}"


def contents(folder: Path) -> dict[str, Any]:
    """What files hold, by name: a hash, or of JSON its values, where the folder is called OUT."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        if name.startswith("home/") and "/vesalius/" not in name:
            continue  # caches of libraries
        if _FREE.search(name):
            continue
        found[name] = hashlib.sha256(data).hexdigest()
        if path.suffix in (".json", ".jsonl"):
            text = data.decode().replace(str(folder), "OUT")
            lines = text.splitlines() if path.suffix == ".jsonl" else [text]
            found[name] = {f"{k}{key}": v for k, line in enumerate(lines) for key, v in _flat(line)}
    return found


def _flat(text: str) -> list[tuple[str, Any]]:
    """A JSON text as a list of (path, value)."""

    def walk(part: Any, path: str) -> list[tuple[str, Any]]:
        if isinstance(part, dict):
            return [one for key, value in part.items() for one in walk(value, f"{path}.{key}")]
        if isinstance(part, list):
            return [one for k, value in enumerate(part) for one in walk(value, f"{path}[{k}]")]
        return [(path, part)]

    return walk(json.loads(text), "")


def unlike(first: dict[str, Any], second: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """How `found` is unlike two undisturbed outputs, in what those two agree on."""
    said = [f"{name} is lost" for name in sorted(first.keys() - found.keys())]
    said += [f"{name} is left over" for name in sorted(found.keys() - first.keys())]
    for name in sorted(first.keys() & second.keys() & found.keys()):
        one, two, here = first[name], second[name], found[name]
        if isinstance(one, dict):
            steady = {key for key in one if one[key] == two.get(key) and not _TIMES.search(key)}
            other = [key for key in steady if one[key] != here.get(key, "nothing")]
            said += [f"{name} differs in {sorted(other)[0]}"] if other else []
        elif one == two != here:
            said.append(f"{name} differs")
    return said


def _run(arguments: list[str], out: Path, log: Path) -> None:
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = run_here(arguments, out)
    except KeyboardInterrupt:  # before the command had begun
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _code(process: Any) -> int | None:
    return process.poll() if isinstance(process, subprocess.Popen) else process.exitcode


def _wait(process: Any) -> int | None:
    if isinstance(process, subprocess.Popen):
        return process.wait(_SLOWEST)
    process.join(_SLOWEST)
    return process.exitcode


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


if __name__ == "__main__":
    main()
