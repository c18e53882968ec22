"""`augment.json`: what was asked and chosen, so that another table, model or setting is noticed."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vesalius._version import __version__
from vesalius.augment.choose import Amount, Choice
from vesalius.augment.steps import EVIDENCE, FEATURES, PAIRS, PLAN, RUN, SET, UTILITY
from vesalius.core.atomic import atomic_path, clear_write_errors, remove
from vesalius.core.documents import write_document
from vesalius.core.versions import library_versions
from vesalius.errors import VesaliusError

FORMAT = "vesalius augment 1"
RECORD, REPORT, WORK = "augment.json", "report.html", ".work"
_WRITTEN = (PAIRS, RUN, PLAN, SET, EVIDENCE, UTILITY, FEATURES, REPORT, RECORD)
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "timm", "numpy", "pillow", "pyarrow")


@dataclass(frozen=True)
class Identity:
    """What must be the same when a stopped run goes on."""

    input: dict[str, str]  # path, sha256
    model: dict[str, Any]  # name, hash, size_px
    settings: dict[str, Any]  # as `AugmentSettings.as_dict`

    def difference(self, now: "Identity") -> str:
        """What is different now, in words; empty where all is the same."""
        if self.input["sha256"] != now.input["sha256"]:
            return f"another table ({self.input['path']}, or that has changed since)"
        if self.model["hash"] != now.model["hash"]:
            return f"another model ({self.model['name']}, or that has changed since)"
        for name, value in now.settings.items():
            if name != "model" and value != self.settings.get(name):
                before = json.dumps(self.settings.get(name))
                return f"{name} {before}, and now it is {json.dumps(value)}"
        return ""


@dataclass(frozen=True)
class Chosen:
    """What was chosen from the data, and what was checked before training."""

    division: dict[str, Any]  # how, images, notes
    choice: Choice
    amount: Amount
    files: str | None  # format of the synthetic files
    folders: dict[str, str]  # label to the folder of its training
    checks: list[dict[str, str]] = field(default_factory=list)
    device: str = ""


@dataclass
class Record:
    """What is known of a run so far; `results` is filled at its end."""

    command: str
    identity: Identity
    chosen: Chosen
    versions: dict[str, str] = field(default_factory=lambda: library_versions(_LIBRARIES))
    vesalius: str = __version__
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)  # starts and seconds
    verdict: dict[str, Any] | None = None
    pairs_sha256: str | None = None
    results: dict[str, Any] = field(default_factory=dict)  # commands, synthetic, held_out_loss

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "vesalius": self.vesalius,
            "command": self.command,
            **asdict(self.identity),
            **asdict(self.chosen),
            "amount": self.chosen.amount.as_dict(),
            "versions": self.versions,
            "steps": self.steps,
            "verdict": self.verdict,
            **({"pairs_sha256": self.pairs_sha256} if self.pairs_sha256 else {}),
            **self.results,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Record":
        """What `as_dict` gave."""
        known = dict(document)
        if known.pop("format") != FORMAT:
            raise ValueError("another format")
        identity = Identity(*(known.pop(name) for name in ("input", "model", "settings")))
        if not isinstance(known["steps"], dict) or not isinstance(known["verdict"], dict | None):
            raise TypeError("no steps, or no verdict")
        chosen = Chosen(
            division=known.pop("division"),
            choice=Choice(**known.pop("choice")),
            amount=Amount.of(known.pop("amount")),
            **{name: known.pop(name) for name in ("files", "folders", "checks", "device")},
        )
        own = ("command", "versions", "vesalius", "steps", "verdict")
        fields = {name: known.pop(name) for name in own}
        digest = known.pop("pairs_sha256", None)
        return cls(identity=identity, chosen=chosen, pairs_sha256=digest, results=known, **fields)

    def write(self, out: Path) -> None:
        """Write augment.json, whole or not at all."""
        with clear_write_errors(out, 1_000_000), atomic_path(out / RECORD) as temporary:
            write_document(temporary, self.as_dict())

    @contextmanager
    def timed(self, out: Path, step: str) -> Iterator[None]:
        """Count a step's starts and seconds; a kill loses the seconds of its start."""
        times = self.steps.setdefault(step, {"starts": 0, "seconds": 0.0})
        times["starts"] += 1
        self.write(out)
        began = time.monotonic()
        try:
            yield
        finally:
            times["seconds"] = round(times["seconds"] + time.monotonic() - began, 2)
            self.write(out)


def read_record(out: Path, identity: Identity) -> Record | None:
    """The record in `out`, None where nothing was begun.

    Raises VesaliusError where the folder is somebody else's, or was begun with something else.
    """
    path = out / RECORD
    if not path.is_file():
        if out.is_dir() and any(entry.name != WORK for entry in out.iterdir()):
            raise VesaliusError(f"{out} holds other files and no {RECORD}: choose another --out")
        return None
    try:
        record = Record.of(json.loads(path.read_text("utf-8")))
        difference = record.identity.difference(identity)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise VesaliusError(
            f"{path} cannot be read by this version: --restart, or another --out"
        ) from error
    if difference:
        raise VesaliusError(
            f"{out} was begun with {difference}: choose another --out, or --restart to begin again"
        )
    return record


def clear(out: Path) -> None:
    """Remove what an earlier run left in `out`, the record last; nothing where there is none.

    Raises VesaliusError where the folder is somebody else's.
    """
    if not any(entry.name != WORK for entry in out.iterdir()):
        return
    if not (out / RECORD).is_file():
        raise VesaliusError(
            f"{out} holds no {RECORD}, so --restart leaves it alone: choose another --out"
        )
    for name in _WRITTEN:
        remove(out / name)
