"""Who is at work on a set: one run a shard, and what all runs of a set must agree on."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vesalius.core.atomic import MARKER, move, remove, work_folder
from vesalius.core.documents import read_json
from vesalius.core.locks import lock_file
from vesalius.core.paths import no_url
from vesalius.errors import VesaliusError
from vesalius.synthesize.shards import Shard
from vesalius.synthesize.store import RECORDS, recorded
from vesalius.synthesize.stores import IMAGES

ABOUT = "about.json"
_WORK = ".work-"
_GATE = ".gate"  # is there for moments
# What may not change while a set is being made, as a message calls it. The rest is for the record.
_FIXED = {
    "plan": "another plan",
    "model_hash": "another model",
    "adapters": "other adapters",
    "defaults": "other settings",
    "format": "another format",
    "bits": "other bits",
    "store": "another store",
    "chunk": "another chunk size",
    "attempts": "another number of attempts",
    "dtype": "another dtype",
    "guarded": "another guard",
    "guard": "another guard",
}


@contextmanager
def claimed(out: Path, shard: Shard) -> Iterator[Path]:
    """Hold a shard of the set `out` against other runs; yield a folder in it for unfinished work.

    What dead runs left of theirs is removed, and so is the set of a run that has made nothing.
    Raises VesaliusError where another run has the same shard, or divides the set otherwise, and
    where `out` is something else than a set.
    """
    _check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    own = out / f"{_WORK}{shard.index}-of-{shard.count}"
    try:
        with _gate(out):
            for other in _live(out):
                if not other.name.endswith(f"-of-{shard.count}"):
                    raise VesaliusError(
                        f"{out}: another run has the shard "
                        f"{other.name.removeprefix(_WORK).replace('-of-', '/')}: all runs at the "
                        f"same time must divide the set alike, and this one takes {shard}"
                    )
            holding = work_folder(own)
            holding.__enter__()
        try:
            yield own
        finally:  # also after Ctrl-C: what is complete is not in there
            with _gate(out):
                holding.__exit__(None, None, None)
                _live(out)  # so that a set whose other runs were killed is clean at its end
    finally:
        with suppress(OSError), _gate(out):
            if not recorded(out) and not {*os.listdir(out)} - {ABOUT, RECORDS, _GATE}:
                remove(out)


def settle(out: Path, work: Path, about: Mapping[str, Any]) -> None:
    """Write what the set is made from and how, or check that it is what earlier runs wrote.

    Raises VesaliusError that names what differs.
    """
    path, about = out / ABOUT, json.loads(json.dumps(about))  # as it is read again
    with _gate(out):
        there = read_json(path) if path.is_file() else {}
        if not recorded(out) and _live(out) == [work]:
            if "plan" in there and (out / RECORDS).is_dir():
                remove(out / IMAGES)  # of a run that died within its first chunk
            there = {}  # nothing is made yet: a mistake may be corrected
        for key, what in _FIXED.items():
            if key in about and key in there and not _alike(about[key], there[key]):
                raise VesaliusError(
                    f"{out} was begun with {what} ({_short(there[key])}; now "
                    f"{_short(about[key])}): choose another --out, or give what it was begun with"
                )
        if any(key not in there for key in about):
            write_json(path, work, {**about, **there})


def write_json(path: Path, work: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file by way of the folder `work`, whole or not at all."""
    stage = work / path.name
    stage.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    move(stage, path)


def _check_free(out: Path) -> None:
    """Raise VesaliusError unless `out` is a set, or nothing yet."""
    if not no_url(out).exists():
        return
    if not out.is_dir():
        raise VesaliusError(f"{out} is a file, not a folder: choose another --out")
    names = os.listdir(out)
    # without about.json it is a set when its first run has not come to write it
    ours = (_WORK, _GATE)
    if names and ABOUT not in names and not any(name.startswith(ours) for name in names):
        raise VesaliusError(f"{out} holds something else (no {ABOUT}): choose another --out")


@contextmanager
def _gate(out: Path) -> Iterator[None]:
    """One process at a time, for moments: whoever looks for dead runs must not meet a beginning one."""
    with lock_file(out / _GATE, wait=True):
        yield


def _live(out: Path) -> list[Path]:
    """The work folders of runs that are alive. Those of dead ones are removed."""
    live = []
    for folder in sorted(out.glob(f"{_WORK}*")):
        if not (folder / MARKER).exists():  # it was killed as it made or removed the folder
            remove(folder)
            continue
        try:
            with work_folder(folder):  # can be entered only when its run is gone
                pass
        except VesaliusError:
            live.append(folder)
    return live


def _alike(a: Any, b: Any) -> bool:
    """Equal, but for the last digits of what two machines have measured (a guard's thresholds)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-6)
    return a == b


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
