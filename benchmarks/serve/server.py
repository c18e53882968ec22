"""`vesalius serve` as a user starts it, for the benchmarks of this room."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

_FAKE = Path(__file__).parents[2] / "tests" / "serve" / "fake_worker.py"
_WITHOUT_MODEL = """
import sys
from vesalius.serve import conductor
conductor.Conductor.__init__.__defaults__ = ((sys.executable, sys.argv.pop(1)),)
from vesalius.cli import main
main()
"""


class Server:
    """The command on a library, until the block ends; `restart` begins it again on the same one."""

    def __init__(self, model: str = "mini", *, draws: bool = True) -> None:
        """Without a model where it does not draw: with the worker of the tests, and so at once."""
        self._folder = tempfile.TemporaryDirectory()
        self.model, self.draws = model, draws
        self.library = Path(self._folder.name) / "library"

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        begun = time.monotonic()
        start = ["-m", "vesalius"] if self.draws else ["-c", _WITHOUT_MODEL, str(_FAKE)]
        command = [sys.executable, *start, "serve", "--model", self.model]
        command += ["--library", str(self.library), "--port", "0", "--no-browser"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout
        self.link = self.process.stdout.readline().strip()
        if not self.link:
            raise RuntimeError("vesalius serve did not start")
        self.seconds_to_answer = time.monotonic() - begun
        self.base = self.link.partition("/enter")[0]
        self.key = json.loads((self.library / "keys.json").read_text())["lab"]
        self.headers = {"Authorization": f"Bearer {self.key}"}
        self.client = httpx2.Client(base_url=self.base, headers=self.headers, timeout=120)

    def stop(self, kind: int = signal.SIGINT) -> None:
        """End it by a signal."""
        self.client.close()
        self.process.send_signal(kind)
        self.process.wait()

    def worker(self) -> int | None:
        """The process that draws."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [
            int(pid)
            for path in children.parent.parent.glob("*/children")
            for pid in path.read_text().split()
        ]
        return found[0] if found else None

    def get(self, path: str) -> Any:
        """The JSON of an address."""
        answer = self.client.get(path)
        answer.raise_for_status()
        return answer.json()

    def wait_ready(self) -> float:
        """Seconds until the model is loaded."""
        begun = time.monotonic()
        while self.get("/api/v1/health")["status"] == "loading":
            time.sleep(0.02)
        return time.monotonic() - begun

    def draw(self, **body: Any) -> dict[str, Any]:
        """A job from its request to its end."""
        job = self.client.post("/api/v1/jobs", json=body).raise_for_status().json()
        return self.ended(job["id"])

    def ended(self, id: str) -> dict[str, Any]:
        """A job that is over, by following its events."""
        with self.client.stream("GET", f"/api/v1/jobs/{id}/events") as lines:
            for _ in lines.iter_lines():
                continue
        return self.get(f"/api/v1/jobs/{id}")

    def memory(self, pid: int | None = None) -> int:
        """Bytes that a process holds: the server without its worker, unless another is named."""
        pages = int(Path(f"/proc/{pid or self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
