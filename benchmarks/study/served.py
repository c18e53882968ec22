"""`vesalius study serve` in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

from vesalius.errors import VesaliusError

ROOT = Path(__file__).parents[2]


class Served:
    """A study that is served until `stop`; `links` are those of readers who had none before."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "vesalius", "study", "serve", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--no-browser", *options],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        )
        self.links: dict[str, str] = {}
        self.overview = ""
        assert self.process.stdout
        number = 0
        for line in self.process.stdout:
            if found := re.match(r"progress: (\S+)", line):
                self.overview = found[1]
            elif found := re.match(r"(\d+) links?, shown", line):
                number = int(found[1])
            elif found := re.match(r" +(\S+) +(http\S+)", line):
                self.links[found[1]] = found[2]
                if len(self.links) == number:
                    return
        raise VesaliusError(f"the server ended with exit code {self.process.wait()}")

    def stop(self) -> int:
        """Stop it as an administrator would; the exit code."""
        self.process.terminate()
        code = self.process.wait(10)
        assert self.process.stdout
        self.process.stdout.close()
        return code
