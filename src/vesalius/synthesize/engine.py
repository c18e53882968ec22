"""`vesalius synthesize`: all images of a plan, by any number of runs, each of which may be killed."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius.core.atomic import clear_write_errors
from vesalius.core.waiting import no_collecting
from vesalius.errors import VesaliusError
from vesalius.images.encode import choose_format
from vesalius.sample.folder import SHEET, picture_html
from vesalius.synthesize.claim import claimed, settle
from vesalius.synthesize.finish import Counts, finish, unfinish
from vesalius.synthesize.job import Events, Job, attributes_of, in_windows
from vesalius.synthesize.plan import COLUMNS, PlanRow, plan_digest, read_plan
from vesalius.synthesize.row_adapters import RowAdapters, adapters_of_rows
from vesalius.synthesize.settings import SynthesizeSettings
from vesalius.synthesize.shards import device_of_process, shard_of_process
from vesalius.synthesize.store import RECORDS, fault, record_path, recorded
from vesalius.synthesize.triggers import warnings_of

if TYPE_CHECKING:  # torch is imported only once the request is known to make sense
    from vesalius.models.privacy import PrivacyCards
    from vesalius.sample.generate import TextToImage
    from vesalius.synthesize.guard import Judge

_LOOK_AGAIN = 2.0  # seconds from one look at what other runs have made to the next
_READERS = 8  # threads that check what is there
# What a row of the manifest says itself, and what readers would take for the image's file.
_TAKEN = {*COLUMNS, "file", "file_name", "filename", "image", "img", "jpg", "png", "caption"}
_TAKEN |= {"synthetic", "model", "adapters", "version", "bits", "sha1", "sha256"}
_TAKEN |= {"attempts", "rejected"}


@dataclass(frozen=True)
class SyntheticSet:
    """A set on disk, whole or in part."""

    path: Path
    rows: int  # of the plan
    made: int  # rows that are on the disk, by all runs
    counts: Counts | None  # once all are

    def __repr__(self) -> str:
        if self.counts is None:
            return f"{self.made:,} of {self.rows:,} rows are in {self.path}"
        return f"{self.counts.images:,} synthetic images in {self.path}"

    def _repr_html_(self) -> str:
        sheet = self.path / SHEET
        return f"<p>{self}</p>" + (picture_html(sheet) if sheet.is_file() else "")


def synthesize(
    plan: Path | str | Sequence[PlanRow],
    out: Path | str,
    settings: SynthesizeSettings | None = None,
    *,
    model: "TextToImage | None" = None,
    guard: "Judge | None" = None,
    on_progress: Callable[[float, int], None] | None = None,
    on_warning: Callable[[str], None] = lambda message: None,
    on_message: Callable[[str], object] = lambda message: None,
) -> SyntheticSet:
    """Make the images of a plan, or what is missing of them, in the set `out`.

    A loaded `model` and a `guard` take the places of those that the settings name. Of the images
    that are drawn for a row, the first that the guard accepts is kept. Under torchrun a shard is
    divided further. Image k follows from row k and the model alone.

    Raises VesaliusError for a plan that this model cannot make, a set that was begun otherwise or
    that another run has, and a full disk. KeyboardInterrupt says how much is done. What is complete
    stays in either case, and the same call goes on.
    """
    settings = settings or SynthesizeSettings()
    rows = read_plan(plan) if isinstance(plan, Path | str) else plan
    out, share = Path(out), shard_of_process(settings.shard)
    settings = replace(settings, device=device_of_process(settings.device))
    adapters = adapters_of_rows(settings.adapters, (row.label for row in rows))
    who, own_bits = _identify(settings, model, adapters, guarded=bool(guard or settings.guard))
    _check_rows(rows, who["model_hash"])
    format, bits = choose_format(settings.format, settings.bits, own_bits)
    about = _about(rows, settings, bool(guard or settings.guard))
    about |= who | {"format": format, "bits": bits}
    with clear_write_errors(out, _bytes_of(rows)), claimed(out, share) as work:
        settle(out, work, about)
        (out / RECORDS).mkdir(exist_ok=True)
        plan_hash = about["plan"]
        job = Job(rows, plan_hash, out, work, settings, format, bits, model, guard, adapters)
        missing = _missing(job, list(share.own(job.chunks)), on_warning)

        def begun(facts: dict[str, Any], warnings: list[str]) -> None:
            for message in [*warnings, *warnings_of(adapters)]:
                on_warning(message)
            settle(out, work, about | facts)

        try:
            if missing:
                _run(job, missing, Events(begun, _Progress(job, missing, on_progress), on_message))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: {_made(job):,} of {len(rows):,} rows are done; repeat the "
                "command to resume"
            ) from None
        counts = finish(out, work, job.chunks, changed=bool(missing))
        return SyntheticSet(out, len(rows), _made(job), counts)


def _about(rows: Sequence[PlanRow], settings: SynthesizeSettings, guarded: bool) -> dict[str, Any]:
    """What must stay the same while a set is being made, besides the model."""
    return {
        "synthetic": True,
        "plan": plan_digest(rows),
        "guarded": guarded,
        "defaults": settings.defaults,
        "attempts": settings.attempts,
        "store": settings.store,
        "chunk": settings.chunk,
    }


def _run(job: Job, numbers: Sequence[int], events: Events) -> None:
    """Make these chunks: on a Ray cluster, or here."""
    if job.settings.engine == "ray":
        from vesalius.synthesize.ray_engine import run_on_ray

        run_on_ray(job, numbers, events)
        return
    with no_collecting():
        from vesalius.synthesize.worker import start
    worker = start(job, events.drawn)
    try:
        events.begun(worker.about, worker.check())
        if job.settings.dtype == "auto":
            events.said(worker.precision)
        for window in in_windows(numbers, worker.window_rows, job.settings.chunk):
            worker.make(window)
            worker.finished()
        worker.finished(wait=True)
    finally:
        worker.close()


def _identify(
    settings: SynthesizeSettings,
    model: "TextToImage | None",
    adapters: RowAdapters,
    *,
    guarded: bool,
) -> tuple[dict[str, Any], int]:
    """What identifies a model, and the depth of its images in bits; nothing is loaded.

    Raises VesaliusError where a private model is to be guarded.
    """
    from vesalius.models.privacy import PrivacyCards, privacy_cards

    if model is not None:
        if settings.adapters:
            raise VesaliusError("the model is loaded already: give its adapters to load()")
        taken_in = [f"{one.hash} * {one.weight:g}" for one in model.adapters]
        who = {"model_hash": model.generator.model_hash, "adapters": taken_in}
        who |= _privacy(PrivacyCards(None, tuple(one.card for one in model.adapters)), guarded)
        return who | {"training_rows": None}, model.generator.settings.get("bits", 8)
    from vesalius.models.folder import check_folder, folder_hash
    from vesalius.models.locate import locate, read_settings
    from vesalius.models.trained_on import training_digests

    folder = locate(settings.model)
    check_folder(folder)
    who = {
        "model_hash": folder_hash(folder),
        "adapters": adapters.hashes(),
        "training_rows": training_digests(folder, adapters.files),
    }
    who |= _privacy(privacy_cards(folder, adapters.files), guarded)
    return who, read_settings(folder).get("bits", 8)


def _privacy(cards: "PrivacyCards", guarded: bool) -> dict[str, Any]:
    """What a set carries on of the cards of its model. Raises VesaliusError for a guarded one."""
    from vesalius.models.privacy import refuse_guard

    if guarded:
        refuse_guard(cards)
    return {"privacy": cards.as_dict()} if cards.any else {}


def _check_rows(rows: Sequence[PlanRow], model_hash: str) -> None:
    if not rows:
        raise VesaliusError("the plan has no rows: nothing is planned")
    if len({row.row for row in rows}) < len(rows):
        raise VesaliusError("two rows of the plan have the same number: each needs its own")
    for row in rows:
        if row.model_hash not in ("", model_hash):
            raise VesaliusError(
                f"row {row.row} of the plan is for the model {row.model_hash}, and --model is "
                f"{model_hash}: give the one it was planned for, or empty that column"
            )
    if taken := sorted(_TAKEN.intersection(attributes_of(rows))):
        raise VesaliusError(
            f"the plan has an attribute {taken[0]!r}, which the manifest says itself: rename it"
        )


def _bytes_of(rows: Sequence[PlanRow]) -> int:
    """More than the images will take."""
    return sum(3 * (row.width or 512) * (row.height or 512) for row in rows)


def _missing(job: Job, own: Sequence[int], on_warning: Callable[[str], None]) -> list[int]:
    """Which of the chunks `own` are still to be made: not there, or not as they were written."""
    there = set(recorded(job.out)).intersection(own)

    def look(number: int) -> tuple[int, str | None]:
        return number, fault(job.out, number, [row.row for row in job.of(number)])

    with ThreadPoolExecutor(_READERS) as pool:
        for number, wrong in pool.map(look, sorted(there)):
            if wrong:
                on_warning(f"chunk {number} is made again: {wrong}")
                record_path(job.out, number).unlink()
                there.discard(number)
    missing = [number for number in own if number not in there]
    if missing:
        unfinish(job.out)
    return missing


def _made(job: Job) -> int:
    """Rows of the set that are complete, by whichever run."""
    return sum(len(job.of(number)) for number in recorded(job.out))


class _Progress:
    """Rows done in the whole set: those drawn here, and those that other runs have recorded."""

    def __init__(
        self, job: Job, own: Sequence[int], report: Callable[[float, int], None] | None
    ) -> None:
        self._job, self._own, self._report = job, frozenset(own), report
        self._elsewhere, self._looked = 0, -_LOOK_AGAIN

    def __call__(self, drawn: float) -> None:
        if self._report is None:
            return
        if time.monotonic() - self._looked > _LOOK_AGAIN:
            others = (n for n in recorded(self._job.out) if n not in self._own)
            self._elsewhere = sum(len(self._job.of(number)) for number in others)
            self._looked = time.monotonic()
        self._report(self._elsewhere + drawn, len(self._job.rows))
