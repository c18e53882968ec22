"""The table of steps: what each leaves behind, what it calls, and the command line that does the same.

A step is done when its products are there: each appears whole or not at all.
"""

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vesalius.augment.base import Base
from vesalius.augment.choose import Amount, Choice, arms
from vesalius.augment.command_line import command_line, options_of
from vesalius.augment.division import divide
from vesalius.augment.settings import AugmentSettings
from vesalius.core.atomic import locked_folder
from vesalius.core.locks import Busy
from vesalius.core.manifest import read_manifest
from vesalius.core.progress import Progress
from vesalius.errors import VesaliusError
from vesalius.train.session import Session
from vesalius.utility.arms import KINDS

PAIRS, RUN, PLAN, SET = "pairs.parquet", "run", "plan.csv", "set"
EVIDENCE, UTILITY, FEATURES = "evidence", "utility", "features"
PARTS = ("fidelity", "diversity", "alignment", "privacy")


@dataclass(frozen=True)
class Job:
    """All that the steps share."""

    source: Path
    out: Path
    settings: AugmentSettings
    base: Base
    choice: Choice
    amount: Amount
    format: str | None  # of the synthetic files; None: the model's own
    folders: dict[str, str]  # label to the folder of its training, of one training a label
    device: str
    progress: Progress
    session: Session  # of the training
    on_warning: Callable[[str], None]

    @property
    def pairs(self) -> Path:
        """The table that all later steps read."""
        return self.out / PAIRS

    @property
    def model(self) -> str:
        """What images are made with, besides the adapters."""
        full = self.choice.method == "full"
        return str(self.out / RUN / "generator") if full else self.settings.model

    @property
    def adapters(self) -> tuple[str, ...]:
        """What images are made with besides the model: of a run with one for each label the run."""
        if self.folders:
            return (str(self.out / RUN),)
        adapter = self.choice.method in ("lora", "textual-inversion")
        return (str(self.out / RUN / "adapter"),) if adapter else ()

    @property
    def learned_from(self) -> tuple[str, ...]:
        """What says which images the generator learned from, besides the table."""
        own = [str(self.out / RUN / folder) for folder in self.folders.values()]
        if self.choice.method == "full":  # the run lists its base's images, too
            own.append(str(self.out / RUN))
        return (*own, *map(str, self.base.rows), *self.settings.learned_from)

    @property
    def training_images(self) -> Path | None:
        """What says to `vesalius evaluate` which images the generator has seen.

        A model as it is has seen none of the table's: then the evidence says that it is not known.
        """
        if self.choice.method == "none":
            return None
        return self.pairs if self.folders else self.out / RUN


@dataclass(frozen=True)
class Action:
    """What a step does, and the command line that does the same; an empty line where there is none."""

    line: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Step:
    """One row of the table."""

    name: str
    title: str  # what it does, in words
    products: Callable[[Job], list[str]]  # what it leaves in the folder
    action: Callable[[Job], Action]
    tidy: Callable[[Job], None] = lambda job: None  # of what was killed in its last moment

    def is_done(self, job: Job) -> bool:
        """Whether all products are there."""
        return all((job.out / name).exists() for name in self.products(job))


def _pairs(job: Job) -> Action:
    def run() -> None:
        division = divide(job.source, job.settings)
        if job.choice.method == "textual-inversion":
            division = division.with_tokens()
        division.write(job.pairs)

    # the division is this command's own: the line checks it
    return Action(command_line("pairs", job.pairs, check=True), run)


def _train(job: Job) -> Action:
    from vesalius.train.run import train_recipe

    choice, run_folder = job.choice, job.out / RUN
    words = ["--model", job.settings.model, "--pairs", job.pairs, "--out", run_folder]
    line = command_line("train", choice.recipe_name, *words, *choice.overrides)

    def run() -> None:
        session = replace(job.session, device=job.device, resume=True)
        train_recipe(choice.recipe(), job.pairs, run_folder, job.settings.model, session)
        gc.collect()  # the networks, before those of the next step are loaded

    return Action("" if choice.method == "none" else line, run)


def _free_run(job: Job) -> None:
    """Take away the lock of a training that was killed when all was there."""
    if (job.out / RUN).is_dir():
        with suppress(Busy), locked_folder(job.out / RUN):
            pass


def _plan(job: Job) -> Action:
    from vesalius.synthesize.make_plan import plan_from_pairs
    from vesalius.synthesize.plan import write_plan
    from vesalius.synthesize.settings import HowMany, PlanSettings

    settings = PlanSettings(amount=HowMany(**job.amount.options), seed=job.settings.seed)
    out = job.out / PLAN
    options = options_of(settings, "amount", "seed")
    line = command_line("plan", **{"pairs": job.pairs, **options, "out": out})

    def run() -> None:
        rows = plan_from_pairs(job.pairs, settings, job.on_warning).rows
        # rows go around the classes: any first part is as balanced as the whole
        write_plan(rows[: job.amount.most], out, overwrite=True)

    return Action(line, run)


def _synthesize(job: Job) -> Action:
    from vesalius.synthesize.engine import synthesize
    from vesalius.synthesize.settings import SynthesizeSettings

    settings = SynthesizeSettings(
        model=job.model,
        adapters=job.adapters,
        device=job.device,
        dtype=job.settings.dtype,
        steps=job.settings.steps,
        guidance=job.settings.guidance,
        guard=job.pairs,
        format=job.format,
    )
    shown = ("model", "adapters", "dtype", "steps", "guidance", "guard", "format")
    out = job.out / SET
    line = command_line("synthesize", job.out / PLAN, **options_of(settings, *shown), out=out)

    def run() -> None:
        with job.progress("generating") as count:
            synthesize(job.out / PLAN, out, settings, on_progress=count, on_warning=job.on_warning)
        gc.collect()

    return Action(line, run)


def _free_set(job: Job) -> None:
    """Take away the work folder of a run that was killed when the set was there."""
    from vesalius.synthesize.claim import claimed
    from vesalius.synthesize.shards import Shard

    with suppress(VesaliusError), claimed(job.out / SET, Shard()):
        pass


def _evaluate(job: Job) -> Action:
    from vesalius.evaluate.run import evaluate
    from vesalius.evaluate.settings import EvaluateSettings

    settings = EvaluateSettings(
        learned_from=job.training_images,
        extractors=job.settings.extractors,
        store=job.out / FEATURES,
        only=PARTS,
        match=True,  # a top-up has other numbers of a class than the real images, on purpose
        seed=job.settings.seed,
        samples=job.settings.samples,
        device=job.device,
        overwrite=True,
    )
    shown = ("learned_from", "extractors", "only", "match", "seed", "samples", "store")
    made, out = job.out / SET, job.out / EVIDENCE
    options = {"real": job.pairs, "synthetic": made, **options_of(settings, *shown), "out": out}
    line = command_line("evaluate", **options)

    def run() -> None:
        _check_made(made)
        evaluate(job.pairs, {SET: made}, out, settings, command=line, progress=job.progress,
                 on_warning=job.on_warning)  # fmt: skip

    return Action(line, run)


def _check_made(made: Path) -> None:
    """Refuse a set of which the guard left nothing, or not a single image of a planned class."""
    rows = read_manifest(made / "manifest.jsonl")
    planned = {row["label"] for row in rows}
    if lost := sorted(planned - {row["label"] for row in rows if row["file"] is not None}):
        tries = sum(len(row["rejected"]) for row in rows if row["label"] == lost[0])
        raise VesaliusError(
            f"the guard rejected all {tries:,} images of the class {lost[0]!r}, as "
            f"{made}/manifest.jsonl says: train longer (--images-seen), or take another "
            "--model or --method, with --restart"
        )


def _utility(job: Job) -> Action:
    from vesalius.utility.run import utility

    chosen = arms(job.settings.arms, job.amount.counts, KINDS)
    settings = job.settings.classifiers(chosen, job.learned_from, job.out / FEATURES)
    shown = ("arms", "ratios", "seeds", "backbone", "tune", "steps", "batch", "side",
             "learned_from", "samples", "allow_unproven", "store")  # fmt: skip
    made, out = job.out / SET, job.out / UTILITY
    options = {"real": job.pairs, "synthetic": made, **options_of(settings, *shown), "out": out}
    line = command_line("utility", **options)

    def run() -> None:
        utility(job.pairs, [made], out, settings, command=line, progress=job.progress,
                on_warning=job.on_warning)  # fmt: skip

    return Action(line, run)


def _trained(job: Job) -> list[str]:
    if job.folders:
        return [f"{RUN}/{folder}/adapter" for folder in job.folders.values()]
    results = {"none": [], "full": [f"{RUN}/generator"]}
    return results.get(job.choice.method, [f"{RUN}/adapter"])


def _always(*products: str) -> Callable[[Job], list[str]]:
    return lambda job: list(products)


STEPS = (
    Step("pairs", "divide the images", _always(PAIRS), _pairs),
    Step("train", "fine-tune the generator", _trained, _train, _free_run),
    Step("plan", "plan what to generate", _always(PLAN), _plan),
    Step(
        "synthesize",
        "generate, with the guard",
        _always(f"{SET}/manifest.jsonl"),
        _synthesize,
        _free_set,
    ),
    Step(
        "evaluate",
        "compare with real images",
        _always(f"{EVIDENCE}/metrics.json", f"{EVIDENCE}/report.html"),
        _evaluate,
    ),
    Step(
        "utility",
        "train and compare classifiers",
        _always(
            *(f"{UTILITY}/{f}" for f in ("results.json", "report.html", "predictions.parquet"))
        ),
        _utility,
    ),
)
