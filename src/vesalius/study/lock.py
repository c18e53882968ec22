"""Fix protocol, images and key before the first answer; find any change after.

`lock` hashes everything that decides what readers see and how it will be judged, writes the page to hand in
and makes the database of the readers. `verify` compares a study with its lock.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path
from vesalius.core.callable_room import callable_as
from vesalius.core.documents import read_json, write_document, write_page
from vesalius.core.manifest import file_sha256
from vesalius.core.versions import library_versions
from vesalius.errors import VesaliusError
from vesalius.study.database import Database, Item, Reader, Trial, check_not_begun, create
from vesalius.study.hashes import built_digest, image_hashes, trials_digest
from vesalius.study.key import KeyItem, KeyTrial, read_items, read_trials
from vesalius.study.layout import Layout, open_study
from vesalius.study.preregistration import preregistration
from vesalius.study.protocol import Protocol, read_protocol
from vesalius.study.settings import LockSettings

callable_as(__name__, f"{__name__}:lock")


@dataclass(frozen=True)
class Locked:
    """A study as it was locked."""

    folder: Path
    study: str  # its id
    hash: str  # of protocol.lock.json
    document: Mapping[str, Any]

    def __repr__(self) -> str:
        return (
            f"{self.folder} is locked: study {self.study}, lock {self.hash[:16]}; hand in "
            f"{Layout(self.folder).preregistration} before the first reading"
        )


def lock(
    folder: Path | str,
    settings: LockSettings | None = None,
    *,
    on_warning: Callable[[str], object] = lambda message: None,
) -> Locked:
    """Lock the study in `folder`.

    Raises VesaliusError where it is locked already, was not checked as it is, a machine can tell the arms
    and no reason is given to go on, or the protocol asks for another design than was built.
    """
    settings, layout = settings or LockSettings(), open_study(folder)
    if layout.lock.exists():
        raise VesaliusError(f"{folder} is locked already, since {read_json(layout.lock)['time']}")
    check_not_begun(layout)
    protocol, built = read_protocol(layout.protocol), read_json(layout.build)
    _check_design(layout, protocol, built)
    images = image_hashes(layout)
    checked = _checked(layout, built_digest(layout, images), settings.despite)
    power = layout.power.is_file()
    if not power:
        on_warning(
            "nobody looked at what so many readers and cases can show: `vesalius study power "
            f"{folder}` says it, and it is too late once readers have read"
        )
    key, trials = read_items(layout.key), read_trials(layout.key_trials)
    items, rows = _items(key, trials, images, protocol), _trials(trials)
    hashes = {
        "protocol.yaml": file_sha256(layout.protocol),
        "build.json": file_sha256(layout.build),
        "check.json": file_sha256(layout.check),
        "key.parquet": file_sha256(layout.key),
        "key-trials.parquet": file_sha256(layout.key_trials),
        "trials": trials_digest(items, rows),
    }
    document = {
        "format": 1,
        "study": secrets.token_hex(8),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": __version__,
        "versions": library_versions(["numpy", "pillow", "scipy"]),
        "hashes": hashes,
        "images": images,
        "margins": {task.task: task.margin for task in protocol.tasks},
        "excluded": built["excluded"],
        "check": {arm["arm"]: arm["auc"] for arm in checked["arms"]},
        "despite": {"reasons": checked["reasons"], "reason": settings.despite},
        "power_looked_at": power,
        "power": " ".join(read_json(layout.power).get("sentences", [])) if power else "",
    }
    return _write(layout, document, _Content(protocol, built, checked, items, rows))


@dataclass(frozen=True)
class _Content:
    protocol: Protocol
    built: Mapping[str, Any]
    checked: Mapping[str, Any]
    items: Sequence[Item]
    trials: Sequence[Trial]


def _check_design(layout: Layout, protocol: Protocol, built: Mapping[str, Any]) -> None:
    """Raise VesaliusError where the protocol was edited in what `build` has decided by it."""
    design = json.loads(json.dumps(protocol.design()))
    if changed := [name for name, value in design.items() if built["design"].get(name) != value]:
        raise VesaliusError(
            f"{layout.protocol} asks for other {', '.join(changed)} than the study was built with: run "
            f"`vesalius study build --protocol` with a copy of it"
        )


def _checked(layout: Layout, digest: str, despite: str | None) -> dict[str, Any]:
    """What `check` found. Raises VesaliusError where it has to be run, or has found the arms."""
    run = f"run `vesalius study check {layout.folder}`"
    if not layout.check.is_file():
        raise VesaliusError(f"whether a machine can tell the arms is not known: {run}")
    checked = read_json(layout.check)
    if checked["images"] != digest:
        raise VesaliusError(f"images or key have changed since they were checked: {run}")
    if checked["reasons"] and despite is None:
        raise VesaliusError(
            f"a machine can tell the arms, and so may readers: {'; '.join(checked['reasons'])}. Build "
            "the study otherwise (borders: --crop-borders; sharpness or grain: a smaller --size, or real "
            "images of the synthetic ones' own size), or give a reason by --despite, which is recorded"
        )
    return checked


def _items(
    key: Sequence[KeyItem],
    trials: Sequence[KeyTrial],
    images: Mapping[str, str],
    protocol: Protocol,
) -> list[Item]:
    """The images without their arms; the prompt of those only that are shown with it."""
    shown = {name for t in trials if t.task == "alignment" for name in t.items.split(",")}
    if {item.item for item in key} != images.keys():
        raise VesaliusError("the key names other images than there are: build the study again")
    pixels = protocol.pixels
    return [
        Item(one.item, images[one.item], pixels.width, pixels.height,
             one.prompt if one.item in shown else "")
        for one in sorted(key, key=lambda one: one.item)
    ]  # fmt: skip


def _trials(trials: Sequence[KeyTrial]) -> list[Trial]:
    return [
        Trial(t.trial, t.reader, t.position, t.task, t.phase, tuple(t.items.split(",")),
              secrets.token_urlsafe(16), t.truth if t.phase == "training" else "")
        for t in trials
    ]  # fmt: skip


def _write(layout: Layout, document: dict[str, Any], content: _Content) -> Locked:
    """All three files; the lock comes last, and without it there is no locked study."""
    readers = [Reader(one.name, specialty=one.specialty) for one in content.protocol.readers]
    with atomic_path(layout.lock) as temporary:
        write_document(temporary, document)
        hash = file_sha256(temporary)
        meta = {"study": document["study"], "locked": hash}
        create(layout.database, content.items, content.trials, readers, meta)
        page = preregistration(content.protocol, content.built, content.checked, document, hash)
        with atomic_path(layout.preregistration) as page_file:
            write_page(page_file, page)
    return Locked(layout.folder, document["study"], hash, document)


def verify(layout: Layout, *, key: bool) -> Locked:
    """The lock of a study in which nothing has changed since.

    Without `key` the key files are not opened, as befits the server. Raises VesaliusError that says what
    has changed, and where the study is not locked.
    """
    if not layout.lock.is_file():
        raise VesaliusError(f"{layout.folder} is not locked: run `vesalius study lock` first")
    document, hash = read_json(layout.lock), file_sha256(layout.lock)
    files = ["protocol.yaml", "build.json", "check.json"]
    files += ["key.parquet", "key-trials.parquet"] if key else []
    changed = [
        name
        for name in files
        if not (path := layout.folder / name).is_file()
        or file_sha256(path) != document["hashes"][name]
    ]
    images = image_hashes(layout)
    names = [n for n in {**images, **document["images"]}
             if images.get(n) != document["images"].get(n)]  # fmt: skip
    changed += [f"{len(names)} images, such as {min(names)}"] if names else []
    with Database(layout.database) as database:
        if database.meta("locked") != hash:
            changed.append(layout.lock.name)
        if trials_digest(database.items(), database.trials()) != document["hashes"]["trials"]:
            changed.append("the trials in study.sqlite")
    if changed:
        raise VesaliusError(
            f"{layout.folder} was changed after it was locked: {', '.join(changed)}; restore it from a "
            "copy, or build a new study"
        )
    return Locked(layout.folder, document["study"], hash, document)
