"""From a table to an answer: divide, fine-tune, plan, generate, evaluate, judge.

`augment` goes on where an earlier call was stopped; `estimate` says what it would do.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vesalius.augment import preflight
from vesalius.augment.base import Base, find_base
from vesalius.augment.choose import Amount, Choice, amount, choose, say_time
from vesalius.augment.division import Division, divide
from vesalius.augment.record import REPORT, WORK, Chosen, Identity, Record, clear, read_record
from vesalius.augment.report import made_files, write_report
from vesalius.augment.settings import AugmentSettings
from vesalius.augment.steps import SET, STEPS, Job, Step
from vesalius.core.atomic import work_folder, writable_new_folder
from vesalius.core.labels import slug
from vesalius.core.manifest import file_sha256
from vesalius.core.paths import did_you_mean_path
from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_device
from vesalius.report.readers import of_sets, read_study
from vesalius.train.session import Say, Session, silent
from vesalius.utility.leakage import Check


@dataclass(frozen=True)
class Augmented:
    """What `augment` came to."""

    folder: Path  # with report.html
    headline: str
    document: dict[str, Any]  # augment.json, whose `verdict` is that of `vesalius utility`

    def __repr__(self) -> str:
        return f"{self.headline}\n{self.folder / REPORT}"


@dataclass(frozen=True)
class Estimate:
    """What `augment` would do: the name of each fact and its words."""

    facts: dict[str, str]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.facts.items())


def augment(
    pairs: Path | str,
    out: Path | str,
    settings: AugmentSettings | None = None,
    *,
    command: str = "",
    progress: Progress = no_progress,
    session: Session | None = None,
    on_warning: Say = silent,
    on_step: Say = silent,
) -> Augmented:
    """Fine-tune on a table's training images, generate, and find out whether that helps.

    Args:
        pairs: a pairs table.
        out: the folder; a call with the same table and settings goes on in it.
        settings: see `AugmentSettings`.
        command: the command line, for the report.
        progress: makes a progress bar of a few words.
        session: what the training calls back.
        on_warning: gets what a user must know.
        on_step: gets a line at the beginning of each step.

    Raises VesaliusError, before anything is trained, for whatever would not come to an answer that
    can be believed; KeyboardInterrupt says in which step it was stopped.
    """
    settings, out, source = settings or AugmentSettings(), Path(out), Path(pairs)
    writable_new_folder(out, overwrite=True)
    study = read_study(settings.study) if settings.study else None
    identity, base = _identify(source, settings, download=True)
    with work_folder(out / WORK):  # a second run at the same time is refused
        if settings.restart:
            clear(out)
        record = None if settings.restart else read_record(out, identity)
        if record is None:
            on_step("looking at what there is")
            prepared = _prepare(source, settings, base)
            record = Record(command, identity, prepared.chosen())
            for message in prepared.warnings:
                on_warning(message)
            record.write(out)
        job = _job(source, out, settings, base, record.chosen)
        job = replace(job, progress=progress, session=session or Session(), on_warning=on_warning)
        for number, step in enumerate(STEPS, start=1):
            if step.is_done(job):
                step.tidy(job)
            else:
                on_step(f"{number}/{len(STEPS)} {step.title}")
                _take(step, number, job, record)
            # a kill may have come between the table and its hash in the record
            record.pairs_sha256 = record.pairs_sha256 or file_sha256(job.pairs)
        if settings.study and study:
            record.results["readers"] = of_sets(settings.study, study, {SET: made_files(out)})
        if record.verdict is None or study or not (out / REPORT).is_file():
            record.results["commands"] = {step.name: step.action(job).line for step in STEPS}
            write_report(record, out, samples=settings.samples)
            record.write(out)
    document = record.as_dict()
    return Augmented(out, document["verdict"]["headline"], document)


def _take(step: Step, number: int, job: Job, record: Record) -> None:
    """Take one step, and count it in the record."""
    before = record.pairs_sha256  # the steps must see one table
    if step.name != "pairs" and before and file_sha256(job.pairs) != before:
        raise VesaliusError(f"{job.pairs} was changed since the first step: --restart begins again")
    record.verdict = None  # that of what was there
    try:
        with record.timed(job.out, step.name):
            step.action(job).run()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"interrupted in step {number} of {len(STEPS)} ({step.title}): what is done is kept, and "
            "repeat the command to resume"
        ) from interrupt
    if step.name == "pairs":
        record.pairs_sha256 = file_sha256(job.pairs)


def estimate(
    pairs: Path | str, out: Path | str, settings: AugmentSettings | None = None
) -> Estimate:
    """What `augment` would do with these arguments; touches nothing.

    Raises VesaliusError for what `augment` refuses.
    """
    settings, out, source = settings or AugmentSettings(), Path(out), Path(pairs)
    writable_new_folder(out, overwrite=True)
    identity, base = _identify(source, settings, download=False)
    record = read_record(out, identity)
    prepared = _prepare(source, settings, base)
    division, choice, planned = prepared.division, prepared.choice, prepared.amount
    facts = {
        f"to {what}": f"{of['all']:,} images: "
        + ", ".join(f"{name} {count:,}" for name, count in of.items() if name != "all")
        for what, of in zip(("train", "validate", "test"), division.counts().values(), strict=True)
    }
    facts |= {"division": division.how, "method": f"{choice.method}: {choice.why}"}
    if choice.method != "none":
        facts |= {
            "trains": choice.trains,
            "length": f"{choice.images_seen:,} images seen, {choice.length}"
            + (f", for each of {choice.trainings} labels" if choice.trainings > 1 else ""),
            "memory": choice.memory,
        }
    facts |= {
        "makes": f"{planned.total:,} images: {planned.why}",
        "classifiers": f"{settings.backbone}, {settings.tune}, {settings.seeds} seeds an arm",
        "time": say_time(choice, planned, base, prepared.device),
    }
    notes = [*division.notes, *(check.message for check in prepared.checks)]
    facts |= {f"note {number}": note for number, note in enumerate(notes, start=1)}
    job = _job(source, out, settings, base, prepared.chosen())
    for number, step in enumerate(STEPS, start=1):
        done = bool(record) and step.is_done(job)
        idle = step.name == "train" and not step.products(job)  # of a method that trains nothing
        title = f"{step.title}: not with method {choice.method}" if idle else step.title
        facts[f"step {number}"] = title + (" (done already)" if done and not idle else "")
    return Estimate(facts)


@dataclass(frozen=True)
class _Prepared:
    """Everything that is chosen, and what holds of it."""

    division: Division
    choice: Choice
    amount: Amount
    checks: list[Check]
    device: str

    @property
    def warnings(self) -> list[str]:
        unproven = [check.message for check in self.checks if check.status == "unproven"]
        return [*self.division.notes, *unproven]

    def chosen(self) -> Chosen:
        division = self.division
        labels = sorted({label for _, label in division.classes()})
        each = labels if self.choice.per_label else []
        return Chosen(
            {"how": division.how, "images": division.counts(), "notes": division.notes},
            self.choice,
            self.amount,
            division.format(),
            {label: slug(label) for label in each},
            [asdict(check) for check in self.checks],
            self.device,
        )


def _identify(source: Path, settings: AugmentSettings, *, download: bool) -> tuple[Identity, Base]:
    """What must be the same when a stopped run goes on."""
    if not source.is_file():
        hint = did_you_mean_path(source) or ": make one with `vesalius pairs`"
        raise VesaliusError(f"no pairs table at {source}{hint}")
    base = find_base(settings.model, download=download)
    table = {"path": str(source), "sha256": file_sha256(source)}
    model = {"name": base.name, "hash": base.hash, "size_px": base.size}
    return Identity(table, model, settings.as_dict()), base


def _prepare(source: Path, settings: AugmentSettings, base: Base) -> _Prepared:
    """Choose, and check what would fail later. Raises VesaliusError for it."""
    device = str(pick_device(settings.device))
    division = divide(source, settings)
    checks = preflight.check(division, base, settings, trains=settings.method != "none")
    choice = choose(division, base, settings, device)
    if choice.method == "textual-inversion":
        division.with_tokens()
    return _Prepared(division, choice, amount(division, settings, device), checks, device)


def _job(source: Path, out: Path, settings: AugmentSettings, base: Base, chosen: Chosen) -> Job:
    """What the steps share, by what was chosen when the run began; nobody is called back."""
    return Job(
        source, out, settings, base, chosen.choice, chosen.amount, chosen.files, chosen.folders,
        str(pick_device(settings.device)), no_progress, Session(), silent,
    )  # fmt: skip
