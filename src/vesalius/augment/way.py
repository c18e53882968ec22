"""The steps themselves: each calls what its own command calls, and leaves its products behind."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.augment import steps
from vesalius.augment.base import Base
from vesalius.augment.choose import Amount, Choice, arms
from vesalius.augment.command_lines import PARTS, batch_of, commands
from vesalius.augment.division import divide
from vesalius.augment.settings import Settings
from vesalius.augment.steps import EVIDENCE, FEATURES, PAIRS, PLAN, RUN, SET, UTILITY, Step
from vesalius.core.manifest import read_manifest
from vesalius.core.progress import Progress
from vesalius.errors import VesaliusError
from vesalius.utility.arms import KINDS

Say = Callable[[str], None]


@dataclass
class Way:
    """All that the steps share."""

    source: Path
    out: Path
    settings: Settings
    base: Base
    choice: Choice
    amount: Amount
    format: str | None  # of the synthetic files; None: the model's own
    folders: dict[str, str]  # label to the folder of its training, of one training a label
    device: str
    progress: Progress
    warn: Say

    @property
    def adapters(self) -> list[str]:
        """Paths of the adapters that the images are made with."""
        if self.choice.method == "lora":
            return [str(self.out / RUN / "adapter")]
        return [str(self.out / RUN / folder / "adapter") for folder in self.folders.values()]

    @property
    def seen(self) -> list[str]:
        """What says which images the generator learned from, besides the table."""
        own = [str(self.out / RUN / folder) for folder in self.folders.values()]
        if self.choice.method == "full":  # the run tells of its base, too
            own.append(str(self.out / RUN))
        return [*own, *map(str, self.base.rows), *self.settings.seen]

    @property
    def learned_from(self) -> Path | None:
        """What tells `vesalius evaluate` which images the generator has seen.

        A model as it is has seen none of the table's: then the evidence says that it is not known.
        """
        if self.choice.method == "none":
            return None
        return self.out / (PAIRS if self.folders else RUN)

    @property
    def arms(self) -> tuple[str, ...]:
        """Those of the classifiers."""
        return arms(self.settings.arms, self.amount.counts, KINDS)

    @property
    def commands(self) -> dict[Step, str]:
        """The command line that does the same as each step."""
        return commands(self.out, self.settings, self.choice, self.amount, self.format, self.adapters, self.arms,
                        self.seen, self.learned_from)  # fmt: skip

    def products(self, step: Step) -> list[str]:
        """What a step leaves in the folder."""
        return steps.products(step, self.choice.method, self.folders)


def _divide(way: Way) -> None:
    division = divide(way.source, way.settings)
    if way.choice.method == "textual-inversion":
        division = division.with_tokens()
    division.write(way.out / PAIRS)


def _train(way: Way) -> None:
    from vesalius.core.terminal import say, training_progress
    from vesalius.train.run import train_recipe
    from vesalius.train.session import Session

    session = Session(way.device, True, way.progress, training_progress, say, way.warn)
    recipe, model = way.choice.recipe(), way.settings.model
    train_recipe(recipe, way.out / PAIRS, way.out / RUN, model, session)
    gc.collect()  # the networks, before those of the next step are loaded


def _plan(way: Way) -> None:
    from vesalius.synthesize.make_plan import plan_from_pairs
    from vesalius.synthesize.plan import write_plan
    from vesalius.synthesize.settings import HowMany, PlanSettings

    amount = HowMany(**way.amount.way)
    settings = PlanSettings(amount=amount, seed=way.settings.seed)
    rows = plan_from_pairs(way.out / PAIRS, settings, way.warn).rows
    # rows go around the classes: any first part is as balanced as the whole
    write_plan(rows[: way.amount.most], way.out / PLAN, overwrite=True)


def _synthesize(way: Way) -> None:
    from vesalius.synthesize.engine import synthesize
    from vesalius.synthesize.settings import SynthesizeSettings

    model = str(way.out / RUN / "generator") if way.choice.method == "full" else way.settings.model
    settings = SynthesizeSettings(
        model=model,
        adapters=tuple(way.adapters),
        device=way.device,
        steps=way.settings.steps,
        guidance=way.settings.guidance,
        guard=way.out / PAIRS,
        format=way.format,
    )
    with way.progress("generating") as count:
        synthesize(way.out / PLAN, way.out / SET, settings, on_progress=count, on_warning=way.warn)
    gc.collect()


def _check_made(way: Way) -> None:
    """Refuse a set of which the guard left nothing, or not a single image of a planned class."""
    rows = read_manifest(way.out / SET / "manifest.jsonl")
    planned, made = ({row["label"] for row in some} for some in (rows, _with_images(rows)))
    if lost := sorted(planned - made):
        tries = sum(len(row["rejected"]) for row in rows if row["label"] == lost[0])
        raise VesaliusError(
            f"the guard rejected all {tries:,} images of the class {lost[0]!r}, as "
            f"{way.out / SET}/manifest.jsonl says: train longer (--images-seen), or take another "
            "--model or --method, with --restart"
        )


def _with_images(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["file"] is not None]


def _evaluate(way: Way) -> None:
    from vesalius.evaluate.run import evaluate
    from vesalius.evaluate.settings import EvaluateSettings

    _check_made(way)
    settings = EvaluateSettings(
        extractors=way.settings.extractors,
        only=PARTS,
        match=True,  # a top-up has other numbers of a class than the real images, on purpose
        seed=way.settings.seed,
        device=way.device,
        samples=way.settings.samples,
        train=way.learned_from,
        store=way.out / FEATURES,
        overwrite=True,
    )
    evaluate(
        way.out / PAIRS,
        {SET: way.out / SET},
        way.out / EVIDENCE,
        settings,
        command=way.commands["evaluate"],
        progress=way.progress,
        on_warning=way.warn,
    )


def _utility(way: Way) -> None:
    from vesalius.utility.run import utility
    from vesalius.utility.settings import UtilitySettings

    asked = way.settings
    settings = UtilitySettings(
        arms=way.arms,
        ratios=asked.ratios,
        seeds=asked.seeds,
        backbone=asked.backbone,
        tune=asked.tune,
        steps=asked.classifier_steps,
        batch=batch_of(asked),
        side=asked.side,
        device=way.device,
        allow_unproven=asked.allow_unproven,
        samples=asked.samples,
        learned_from=tuple(way.seen),
        store=way.out / FEATURES,
        overwrite=True,
    )
    utility(
        way.out / PAIRS,
        way.out / SET,
        way.out / UTILITY,
        settings,
        command=way.commands["utility"],
        progress=way.progress,
        on_warning=way.warn,
    )


DO: dict[Step, Callable[[Way], None]] = {
    "pairs": _divide,
    "train": _train,
    "plan": _plan,
    "synthesize": _synthesize,
    "evaluate": _evaluate,
    "utility": _utility,
}
