"""`vesalius synthesize`: all images of a plan, by any number of runs, each of which may be killed."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius.core.atomic import told_plainly
from vesalius.errors import VesaliusError
from vesalius.images.encode import choose_format
from vesalius.sample.checks import check_numbers
from vesalius.sample.samplers import check_sampler
from vesalius.synthesize.chunks import CHUNK, device_of_process, in_windows, shard_of_process
from vesalius.synthesize.claim import claimed, settle
from vesalius.synthesize.job import Job
from vesalius.synthesize.plan import COLUMNS, PlanRow, plan_digest, read_plan
from vesalius.synthesize.store import RECORDS, STORES, fault, record_path, recorded

if TYPE_CHECKING:  # torch is imported only once the request is known to make sense
    from vesalius.sample.generate import TextToImage
    from vesalius.synthesize.guard import Judge

ENGINES = ("local", "ray")
_LOOK_AGAIN = 2.0  # seconds from one look at what other runs have made to the next
_READERS = 8  # threads that check what is there
# What a row of the manifest says itself, and what readers would take for the image's file.
_TAKEN = {*COLUMNS, "file", "file_name", "filename", "image", "img", "jpg", "png", "caption"}
_TAKEN |= {"synthetic", "model", "adapters", "version", "bits", "sha1", "sha256"}
_TAKEN |= {"attempts", "rejected"}


@dataclass
class Events:
    """What an engine tells the one who waits for it."""

    begun: Callable[[dict[str, Any], list[str]], None]  # a worker's `about` and its warnings
    drawn: Callable[[float], None]  # rows since the beginning, parts of one included


def synthesize(
    plan: Path | str | Sequence[PlanRow],
    out: Path | str,
    *,
    model: "str | TextToImage" = "mini",
    adapters: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    steps: int | None = None,
    guidance: float | None = None,
    sampler: str | None = None,
    guard: "Judge | Path | str | None" = None,
    attempts: int = 5,
    format: str | None = None,
    bits: int | None = None,
    store: str = "folder",
    shard: str | None = None,
    chunk: int = CHUNK,
    batch_size: int | None = None,
    compiled: bool = False,
    engine: str = "local",
    ray_address: str | None = None,
    on_progress: Callable[[float, int], None] | None = None,
    on_warning: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Make the images of a plan, or what is missing of them, in the set `out`.

    `model`, `adapters`, `device` and `dtype` are those of `generate.load`, which a loaded model has
    had. `steps`, `guidance` and `sampler` are for rows that leave them empty. Of `attempts` images
    that are drawn for a row at most, the first that `guard` accepts is kept: a judge, or the pairs
    table of the training images for `guard.build_guard`. `format` and `bits` are those of
    `io.encode`, `store` a name of `store.STORES`. `shard` is as in `chunks.parse_shard`; under
    torchrun it is divided further. `chunk` rows are finished at once. `batch_size`, `compiled` (by
    torch.compile) and `engine` change speed alone: image k follows from row k and the model.

    Returns `rows`, `made` (rows that are on the disk, by all runs), and `counts` once all are.
    Raises VesaliusError for a plan that this model cannot make, a set that was begun otherwise or
    that another run has, and a full disk. KeyboardInterrupt says how much is done. What is complete
    stays in either case, and the same call goes on.
    """
    rows = read_plan(plan) if isinstance(plan, Path | str) else plan
    check_numbers(steps=steps, guidance=guidance, batch_size=batch_size)
    check_sampler(sampler or "")
    for name, value in (("attempts", attempts), ("chunk", chunk)):
        if value < 1:
            raise VesaliusError(f"{name} is {value}: it must be at least 1")
    for name, value, known in (("store", store, STORES), ("engine", engine, ENGINES)):
        if value not in known:
            raise VesaliusError(f"no {name} is called {value!r}: choose one of {', '.join(known)}")
    out, share, device = Path(out), shard_of_process(shard), device_of_process(device)
    who, own_bits = _identify(model, adapters)
    _check_rows(rows, who["model_hash"])
    format, bits = choose_format(format, bits, own_bits)
    about: dict[str, Any] = {
        "synthetic": True,
        "plan": plan_digest(rows),
        **who,
        "guarded": guard is not None,
        "defaults": _given(steps=steps, guidance=guidance, sampler=sampler),
        "attempts": attempts,
        "format": format,
        "bits": bits,
        "store": store,
        "chunk": chunk,
    }
    with told_plainly(out, _bytes_of(rows)), claimed(out, share) as work:
        settle(out, work, about)
        (out / RECORDS).mkdir(exist_ok=True)
        job = Job(
            rows=rows,
            plan=about["plan"],
            out=out,
            work=work,
            model=model,
            adapters=tuple(adapters),
            device=device,
            dtype=dtype,
            guard=guard,
            attributes=_attributes(rows),
            chunk=chunk,
            batch_size=batch_size,
            format=format,
            bits=bits,
            store=store,
            attempts=attempts,
            defaults=about["defaults"],
            compiled=compiled,
        )
        missing = _missing(job, list(share.own(job.chunks)), on_warning)
        if missing:
            progress = _Progress(job, missing, on_progress)

            def begun(told: dict[str, Any], warnings: list[str]) -> None:
                for message in warnings:
                    on_warning(message)
                settle(out, work, about | told)

            events = Events(begun, progress)
            try:
                if engine == "ray":
                    from vesalius.synthesize.ray_engine import run_on_ray

                    run_on_ray(job, missing, events, ray_address)
                else:
                    run_here(job, missing, events)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted: {_made(job):,} of {len(rows):,} rows are done; the same command "
                    "goes on"
                ) from None
        from vesalius.synthesize.finish import finish

        counts = finish(out, work, job.chunks, changed=bool(missing))
        return {"rows": len(rows), "made": _made(job), "counts": counts}


def run_here(job: Job, numbers: Sequence[int], events: Events) -> None:
    """Make these chunks in this process."""
    from vesalius.synthesize.worker import start

    worker = start(job, events.drawn)
    try:
        events.begun(worker.about, worker.check())
        for window in in_windows(numbers, worker.batch_size, job.chunk):
            worker.make(window)
            worker.finished()
        worker.finished(wait=True)
    finally:
        worker.close()


def _identify(model: "str | TextToImage", adapters: Sequence[str]) -> tuple[dict[str, Any], int]:
    """What tells a model from others, and the depth of its images in bits; nothing is loaded."""
    if not isinstance(model, str):
        if adapters:
            raise VesaliusError("the model is loaded already: give its adapters to load()")
        told = [f"{one.hash} * {one.weight:g}" for one in model.adapters]
        who = {"model_hash": model.generator.model_hash, "adapters": told, "training_rows": None}
        return who, model.generator.settings.get("bits", 8)
    from vesalius.models.adapters import adapter_hashes
    from vesalius.models.folder import check_folder, folder_hash
    from vesalius.models.locate import locate, read_settings
    from vesalius.models.trained_on import training_digests

    folder = locate(model)
    check_folder(folder)
    who = {
        "model_hash": folder_hash(folder),
        "adapters": adapter_hashes(adapters),
        "training_rows": training_digests(folder, adapters),
    }
    return who, read_settings(folder).get("bits", 8)


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
    if taken := sorted(_TAKEN.intersection(_attributes(rows))):
        raise VesaliusError(
            f"the plan has an attribute {taken[0]!r}, which the manifest says itself: rename it"
        )


def _attributes(rows: Sequence[PlanRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row.attributes))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


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
        from vesalius.synthesize.finish import unfinish

        unfinish(job.out)
    return missing


def _made(job: Job) -> int:
    """Rows of the set that are complete, by whichever run."""
    return sum(len(job.of(number)) for number in recorded(job.out))


class _Progress:
    """Rows done in the whole set: those drawn here, and those that other runs have recorded."""

    def __init__(
        self, job: Job, own: Sequence[int], tell: Callable[[float, int], None] | None
    ) -> None:
        self._job, self._own, self._tell = job, frozenset(own), tell
        self._elsewhere, self._looked = 0, -_LOOK_AGAIN

    def __call__(self, drawn: float) -> None:
        if self._tell is None:
            return
        if time.monotonic() - self._looked > _LOOK_AGAIN:
            others = (n for n in recorded(self._job.out) if n not in self._own)
            self._elsewhere = sum(len(self._job.of(number)) for number in others)
            self._looked = time.monotonic()
        self._tell(self._elsewhere + drawn, len(self._job.rows))
