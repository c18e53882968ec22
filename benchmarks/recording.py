"""What every benchmark ends with: the figures in a file with all that is needed to get them again.

It imports nothing heavy: a benchmark that measures the memory of other processes must be light.
"""

import datetime
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path
from vesalius.errors import VesaliusError


def record(out: Path, name: str, figures: Any, settings: dict[str, Any]) -> None:
    """Write OUT/<name>.json: the figures and all that is needed to get them again."""
    document = {
        "benchmark": name,
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        "version": __version__,
        "torch": version("torch"),
        "settings": settings,
        "figures": figures,
    }
    with atomic_path(out / f"{name}.json") as path:
        path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\n{out / name}.json")


def hardware() -> str:
    """The processor by its name, its cores, and the GPU and threads where torch is in use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    cores = f"{name}, {os.cpu_count()} cores"
    if not (torch := sys.modules.get("torch")):
        return cores
    cuda = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cores}, {torch.get_num_threads()} threads{cuda}"


def peak_resident() -> int:
    """Bytes that this process has held at most; not getrusage's, which may be its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return next(int(x.split()[1]) * 1024 for x in status.read_text().splitlines() if "VmHWM" in x)


def in_a_process(module: str, *arguments: str) -> Any:
    """What `python -m MODULE ARGUMENTS` prints last, JSON: one side, whose memory is its own."""
    command = [sys.executable, "-m", module, *arguments]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told.splitlines()[-1])


def run(main: Callable[[], object]) -> None:
    """Call `main`; an expected failure is one line and exit code 1."""
    try:
        main()
    except VesaliusError as error:
        raise SystemExit(f"error: {error}") from error


def table(rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as columns; the first row is the head, floats have two decimals, None is a dash."""

    def show(cell: Any) -> str:
        return "-" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell)

    shown = [[show(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(first, *(cell.strip().rjust(w) for cell, w in zip(rest, widths[1:], strict=True)))
