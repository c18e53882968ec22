"""What the server and the process with the model say to each other, a line of JSON each."""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Config:
    """The first line to a worker."""

    models: dict[str, str]  # name to what `load` takes; the first is loaded at once
    adapters: dict[str, str]  # id to file
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Order:
    """A job to draw. `files` are where its images go, of which the first `done` are there."""

    job: str
    body: dict[str, Any]
    files: list[str]
    done: int
    pictures: dict[str, str]


@dataclass(frozen=True)
class Drawn:
    """An image that is written."""

    number: int
    sha256: str
    seed: int
    prompt: str
    provenance: dict[str, Any]
    window: tuple[float, float] | None = None  # which values a deep one shows
    kept: dict[str, Any] | None = None  # what its DICOM file has of the one that was painted into

    def facts(self) -> dict[str, Any]:
        """As it is sent."""
        return asdict(self)


def say(channel: IO[str], message: Mapping[str, Any]) -> None:
    """Send one line."""
    line = json.dumps(message)
    with _LOCK:
        channel.write(line + "\n")
        channel.flush()
