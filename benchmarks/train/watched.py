"""Run a script or module and keep note of its peak memory, ours and anybody's alike.

    python -m benchmarks.train.watched MEMORY.json SCRIPT.py|MODULE [ARGUMENT...]

MEMORY.json is written anew each half second, so it holds the peak of a process that is killed:
that of the GPU as torch allocates it, or without one that of the process, as resident.
"""

import json
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from benchmarks.recording import peak_resident

EVERY_SECONDS = 0.5


def main() -> None:
    note, target = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that it ends its children
    threading.Thread(target=keep_note, args=(note,), daemon=True).start()
    if target.endswith(".py"):
        sys.path.insert(0, str(Path(target).parent))
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)


def keep_note(path: Path) -> None:
    """Peaks are kept by torch: however rarely they are read, none is missed."""
    while True:
        time.sleep(EVERY_SECONDS)
        peak = {}
        if torch.cuda.is_initialized():
            peak["allocated"] = torch.cuda.max_memory_allocated()
            peak["reserved"] = torch.cuda.max_memory_reserved()
        elif not torch.cuda.is_available():
            peak["resident"] = peak_resident()
        if peak:
            temporary = path.with_suffix(".new")
            temporary.write_text(json.dumps(peak))
            temporary.replace(path)


if __name__ == "__main__":
    main()
