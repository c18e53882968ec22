"""The whole way: divide, fine-tune, plan, generate, evaluate, judge; each step once, whatever happens.

`augment` goes on where an earlier call was stopped; `dry_run` says what it would do.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vesalius.augment import preflight, steps
from vesalius.augment.base import Base, find_base
from vesalius.augment.choose import Amount, Choice, amount, choose, say_time
from vesalius.augment.division import Division, divide
from vesalius.augment.report import write_report
from vesalius.augment.settings import Settings
from vesalius.augment.steps import PAIRS, Step
from vesalius.augment.way import DO, Say, Way
from vesalius.core.atomic import work_folder, writable_new_folder
from vesalius.core.labels import slug
from vesalius.core.manifest import file_sha256
from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_device


def _quiet(_message: str) -> None:
    """Say nothing."""


def augment(
    pairs: Path | str,
    out: Path | str,
    settings: Settings | None = None,
    *,
    restart: bool = False,
    command: str = "",
    progress: Progress = no_progress,
    on_warning: Say = _quiet,
    on_step: Say = _quiet,
) -> dict[str, Any]:
    """Fine-tune on a table's training images, generate, and find out whether that helps.

    Args:
        pairs: a pairs table.
        out: the folder; a call with the same table and settings goes on in it.
        settings: see `Settings`.
        restart: remove what an earlier call left in `out` first.
        command: the command line, for the report.
        progress: makes a progress bar of a few words.
        on_warning: gets what a user must know.
        on_step: gets a line at the beginning of each step.

    Returns the document of augment.json, whose `verdict` is that of `vesalius utility`.
    Raises VesaliusError, before anything is trained, for whatever would not come to an answer that
    can be believed; KeyboardInterrupt says in which step it was stopped.
    """
    settings, out, source = settings or Settings(), Path(out), Path(pairs)
    settings.check()
    device = str(pick_device(settings.device))
    writable_new_folder(out, overwrite=True)
    identity, base = _identity(source, settings, download=True)
    with work_folder(out / steps.WORK):  # a second run at the same time is refused
        if restart:
            steps.clear(out)
        record = None if restart else steps.read_record(out, identity)
        if record is None:
            on_step("looking at what there is")
            record = _begin(source, settings, base, device, identity, command, on_warning)
            steps.write_record(out, record)
        way = _way(record, source, out, settings, base, progress, on_warning)
        for number, step in enumerate(steps.STEPS, start=1):
            if steps.is_done(out, way.products(step)):
                continue
            on_step(f"{number}/{len(steps.STEPS)} {steps.DOES[step]}")
            _check_pairs(record, way, step)
            try:
                with steps.timed(out, record, step):
                    DO[step](way)
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt(
                    f"interrupted in step {number} of {len(steps.STEPS)} ({steps.DOES[step]}): what "
                    "is done is kept, and the same command goes on"
                ) from interrupt
            if step == "pairs":
                record["pairs_sha256"] = file_sha256(out / PAIRS)
            record["verdict"] = None
        if record["verdict"] is None or not (out / steps.REPORT).is_file():
            record["commands"] = way.commands
            write_report(record, out, samples=settings.samples)
            steps.write_record(out, record)
    return record


def dry_run(pairs: Path | str, out: Path | str, settings: Settings | None = None) -> dict[str, str]:
    """What `augment` would do with these arguments: name of a fact to its words; touches nothing.

    Raises VesaliusError for what `augment` refuses.
    """
    settings, out, source = settings or Settings(), Path(out), Path(pairs)
    settings.check()
    device = str(pick_device(settings.device))
    writable_new_folder(out, overwrite=True)
    identity, base = _identity(source, settings, download=False)
    record = steps.read_record(out, identity)
    division, choice, planned, checks = _prepare(source, settings, base, device)
    lines = {
        f"to {what}": f"{of['all']:,} images: "
        + ", ".join(f"{name} {count:,}" for name, count in of.items() if name != "all")
        for what, of in zip(("train", "validate", "test"), division.counts().values(), strict=True)
    }
    lines |= {"division": division.how, "method": f"{choice.method}: {choice.why}"}
    if choice.method != "none":
        lines |= {
            "trains": choice.trains,
            "length": f"{choice.images_seen:,} images seen, {choice.length}"
            + (f", for each of {choice.trainings} labels" if choice.trainings > 1 else ""),
            "memory": choice.memory,
        }
    lines |= {
        "makes": f"{planned.total:,} images: {planned.why}",
        "classifiers": f"{settings.backbone}, {settings.tune}, {settings.seeds} seeds an arm",
        "time": say_time(choice, planned, base, device),
    }
    for number, note in enumerate([*division.notes, *(c.message for c in checks)], start=1):
        lines[f"note {number}"] = note
    way = _way(_chosen(division, choice, planned), source, out, settings, base)
    for number, step in enumerate(steps.STEPS, start=1):
        done = bool(record) and steps.is_done(out, way.products(step))
        lines[f"step {number}"] = steps.DOES[step] + (" (done already)" if done else "")
    return lines


def _identity(source: Path, settings: Settings, *, download: bool) -> tuple[dict[str, Any], Base]:
    """What must be the same when a way is gone on with."""
    if not source.is_file():
        raise VesaliusError(f"no pairs table at {source}: make one with `vesalius pairs`")
    base = find_base(settings.model, download=download)
    return {
        "input": {"path": str(source), "sha256": file_sha256(source)},
        "model": {"name": base.name, "hash": base.hash, "size_px": base.size},
        "settings": settings.deciding(),
    }, base


def _prepare(
    source: Path, settings: Settings, base: Base, device: str
) -> tuple[Division, Choice, Amount, list[Any]]:
    """Everything that is chosen, and what holds of it. Raises VesaliusError for what would fail."""
    division = divide(source, settings)
    trains = settings.method != "none"
    checks = preflight.rehearse(division, base, settings, trains=trains)
    choice = choose(division, base, settings, device)
    if choice.method == "textual-inversion":
        division.with_tokens()
    return division, choice, amount(division, settings, device), checks


def _begin(
    source: Path,
    settings: Settings,
    base: Base,
    device: str,
    identity: dict[str, Any],
    command: str,
    on_warning: Say,
) -> dict[str, Any]:
    division, choice, planned, checks = _prepare(source, settings, base, device)
    for message in [*division.notes, *(c.message for c in checks if c.status == "unproven")]:
        on_warning(message)
    chosen = _chosen(division, choice, planned) | {
        "checks": [asdict(check) for check in checks],
        "device": device,
    }
    return steps.new_record(identity, chosen, command)


def _chosen(division: Division, choice: Choice, planned: Amount) -> dict[str, Any]:
    labels = sorted({label for _, label in division.classes()})
    each = labels if choice.method == "textual-inversion" else []
    return {
        "division": {"how": division.how, "images": division.counts(), "notes": division.notes},
        "choice": asdict(choice),
        "amount": asdict(planned),
        "files": division.format(),
        "folders": {label: slug(label) for label in each},
    }


def _way(
    record: dict[str, Any],
    source: Path,
    out: Path,
    settings: Settings,
    base: Base,
    progress: Progress = no_progress,
    warn: Say = _quiet,
) -> Way:
    """What the steps share, from a record."""
    return Way(
        source=source,
        out=out,
        settings=settings,
        base=base,
        choice=Choice(**record["choice"]),
        amount=Amount(**record["amount"]),
        format=record["files"],
        folders=record["folders"],
        device=str(pick_device(settings.device)),
        progress=progress,
        warn=warn,
    )


def _check_pairs(record: dict[str, Any], way: Way, step: Step) -> None:
    """The steps must see one table: refuse one that was changed in between."""
    before = record.get("pairs_sha256")
    if step != "pairs" and before and file_sha256(way.out / PAIRS) != before:
        raise VesaliusError(
            f"{way.out / PAIRS} was changed since the first step: --restart begins anew"
        )
