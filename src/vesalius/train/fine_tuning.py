"""Training that starts from a generator: what the methods full, lora and textual-inversion share."""

import gc
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vesalius._version import __version__
from vesalius.config import FineTuneRecipe, Optimisation, TextualInversionRecipe
from vesalius.core.atomic import atomic_path, writable_new_folder
from vesalius.core.labels import slug
from vesalius.core.trained_on import TrainedOn
from vesalius.core.words import plural
from vesalius.errors import VesaliusError
from vesalius.models.folder import WEIGHTS, stored_parameters
from vesalius.models.generator import Generator, load_generator, load_skeleton
from vesalius.models.locate import local_folder, locate
from vesalius.models.noise_process import training_process
from vesalius.models.overlap import seen_test_images
from vesalius.pairs.table import Pairs, read_pairs
from vesalius.train.checks import begun, check_plan
from vesalius.train.denoising import Data, DenoisingMethod
from vesalius.train.distributed import join, on_first_rank
from vesalius.train.estimate import (
    QUICK_MACS,
    Estimate,
    Length,
    Needs,
    count_pairs,
    needs_of,
    trained_part,
    trains_text,
    unknown_until,
)
from vesalius.train.latents import CacheSettings, Encoders, cached_latents
from vesalius.train.loop import Finished, train
from vesalius.train.resuming import images_of, settings_of, settle
from vesalius.train.rows import (
    Rows,
    TrainingPairs,
    choose_rows,
    images_encoded,
    open_pairs,
    sample_prompts,
)
from vesalius.train.run_files import write_recipe, write_training_rows
from vesalius.train.session import Session, Trained
from vesalius.train.timing import (
    Duration,
    Watch,
    few_images,
    seconds_a_caption,
    time_method,
)


@dataclass
class Material:
    """What a method that starts from a generator is given besides its recipe."""

    base: Generator
    data: Data
    captions: list[list[str]]  # of each table row, one or several to choose from
    own: set[int]  # rows that are not of a second, prior table
    notes: dict[str, Any]  # what an adapter says of itself
    device: str


def save_adapter(recipe: Any, material: Material, best: Path, out: Path) -> Path:
    """Write `out`/adapter: the best weights and what the adapter says of itself."""
    with atomic_path(out / "adapter") as temporary:
        shutil.copytree(best, temporary)
        text = json.dumps(material.notes, indent=2) + "\n"
        (temporary / "adapter.json").write_text(text)
    return out / "adapter"


@dataclass(frozen=True)
class FineTuning:
    """A `Kind` that starts from a generator; a method says what it is by these fields."""

    recipe: type[FineTuneRecipe]
    method: Callable[[Any, Material], DenoisingMethod]
    # of recipe, table and training rows: what the adapter says of itself, besides what all say
    notes: Callable[[Any, TrainingPairs, list[int]], dict[str, Any]] = lambda *_: {}
    # of recipe and the base's outline: raises VesaliusError for what does not fit together
    check: Callable[[Any, Generator], None] = lambda _recipe, _base: None
    scheduler: Callable[[Any, Generator], Any] = lambda _recipe, base: base.scheduler
    save: Callable[[Any, Material, Path, Path], Path] = save_adapter  # into the run's folder
    work: str = ""  # folder of log, checkpoints and latents; none: the method's, and the run's own

    def train(self, recipe: Any, pairs: Path, out: Path, session: Session) -> Trained:
        """Train from a base model, once or once a label."""
        out, device = writable_new_folder(out, overwrite=True), join(session.device)
        session = replace(session, device=device)
        table = open_tables(recipe, pairs)
        for one, folder in runs_of(recipe, table, out):
            begun(folder / (self.work or one.method), session)
        self._check(recipe, table, load_skeleton(recipe.model))
        if seen := _seen(recipe, table):
            session.on_warning(seen)
        settled = settle(recipe.optimisation, out, device, session.on_message)
        recipe = recipe.model_copy(update={"optimisation": settled})
        on_first_rank(partial(write_recipe, recipe, out, keep=session.resume))
        done, runs = [], runs_of(recipe, table, out)
        for number, (one, folder) in enumerate(runs, start=1):
            shown = session
            if len(runs) > 1:
                shown = _named(session, f"{recipe.method} {one.label}, {number} of {len(runs)}")
            done.append(self._train_one(one, table, folder, out / self.work / "latents", shown))
            gc.collect()  # the last label's networks, before the next ones are loaded
        on_first_rank(partial(write_recipe, recipe, out))
        if getattr(recipe, "per", "set") == "set":
            return done[0]
        losses = [one.best_loss for one in done if one.best_loss is not None]
        return Trained(
            out,
            "adapters",
            sum(one.seen_images for one in done),
            sum(one.seconds for one in done),
            sum(losses) / len(losses) if losses else None,
            tuple(one.folder for one in done),
        )

    def _check(self, recipe: Any, pairs: TrainingPairs, base: Generator) -> None:
        """Raise VesaliusError for whatever does not go together; `base` is an outline."""
        check_plan(recipe.optimisation, getattr(self.method, "edges", ()))
        if recipe.size % (multiple := base.size_multiple):
            raise VesaliusError(f"size {recipe.size} is not a multiple of {multiple} pixels")
        if trains_text(recipe) and base.caption_chunks > 1:
            raise VesaliusError(
                f"{base.name} reads captions in chunks: its text encoder stays frozen"
            )
        training_process(self.scheduler(recipe, base), recipe.objective)
        for one, _ in runs_of(recipe, pairs, Path()):
            rows_of(one, pairs)
            self.check(one, base)
        trained_part(recipe, base.unet, base.text_encoder)

    def _train_one(
        self, recipe: Any, pairs: TrainingPairs, out: Path, latents: Path, session: Session
    ) -> Trained:
        material = self._prepare(recipe, pairs, latents, session)
        method, base = self.method(recipe, material), material.base
        rows = material.data.rows
        content = images_of(pairs, [*rows.train, *rows.held_out])
        method.settings = settings_of(recipe, model_hash=base.model_hash, **content)
        if session.sampler and _samples(recipe, session):
            prompts = _prompts(recipe, pairs, rows)
            method.draw_samples_with(session.sampler, base, prompts)
        done: Finished = train(method, recipe.optimisation, out / recipe.method, session)
        full = recipe.method == "full"  # an adapter is apart from its base
        bases = [locate(recipe.model)] if full else []
        on_first_rank(partial(write_training_rows, pairs, rows.train, out, bases))
        on_first_rank(partial(self.save, recipe, material, done.best, out))
        kind = "generator" if full else "adapter"
        return done.trained(out / kind, kind)

    def _prepare(
        self, recipe: Any, pairs: TrainingPairs, folder: Path, session: Session
    ) -> Material:
        """The base model, its latents of the table, and the rows that are trained on."""
        rows, device = rows_of(recipe, pairs), session.device
        if rows.held_out == rows.train[: len(rows.held_out)]:
            session.on_warning(
                "no row is held out: the validation loss is that of training rows, and says little"
            )
        # In float32, whatever the files hold: rounded weights cannot take small steps.
        base = load_generator(recipe.model, device, "float32")
        base.scheduler = self.scheduler(recipe, base)
        process = training_process(base.scheduler, recipe.objective, device)
        latents = cached_latents(
            pairs.reading(captions=not trains_text(recipe)),
            Encoders(base.vae, base.tokenizer, base.text_encoder),
            CacheSettings(
                recipe.size,
                recipe.views,
                base.caption_chunks,
                held_out=frozenset(rows.validated(recipe.optimisation)),
            ),
            folder,
            session,
        )
        latents = replace(latents, scaling_factor=float(base.vae.config.scaling_factor))
        if not _samples(recipe, session):  # room for what trains
            base.vae.to("cpu")
            base.text_encoder.to("cpu")
        captions = [[caption] for caption in pairs.column("caption")]
        notes = _notes(recipe, base, pairs, rows.train) | self.notes(recipe, pairs, rows.train)
        data, own = Data(latents, rows, process), set(range(pairs.own))
        return Material(base, data, captions, own, notes, device)

    def estimate(self, recipe: Any, pairs: Path, session: Session) -> Estimate:
        """What `train` would do; nothing is downloaded, and nothing is left written."""
        stage, table = recipe.optimisation, open_tables(recipe, pairs)
        per_label = getattr(recipe, "per", "set") == "label"
        runs = [
            (one, folder, rows_of(one, table)) for one, folder in runs_of(recipe, table, Path())
        ]
        rows = sum(len(set(of.train) - set(table.added())) for _, _, of in runs)
        length = Length.of(stage, rows, len(runs) if per_label else None)
        known: dict[str, Any] = {
            **count_pairs(table, rows),
            "base": recipe.model,
            "lengths": {"length": length},
            "labels": {one.label: _say_rows(of, stage) for one, _, of in runs} if per_label else {},
        }
        folder = local_folder(recipe.model)
        if folder is None:
            return Estimate(trains=unknown_until(recipe.model), **known)
        self._check(recipe, table, load_skeleton(folder))
        needs = needs_of(recipe, folder)
        validated = {row for _, _, of in runs for row in of.validated(stage)}
        images = images_encoded(table, recipe.views, validated)
        captions = 0 if trains_text(recipe) else len(set(table.column("caption")))
        what = "generator" if recipe.method == "full" else "adapter"
        saved = needs.parameters * 4
        if recipe.method == "full":
            saved = 2 * sum(stored_parameters(folder, role) for role in WEIGHTS)
        tensors = 3 + len(stage.ema_half_life_images)
        return Estimate(
            trains=needs.trains,
            cache_bytes=2 * (2 * images * needs.latent_values + captions * needs.text_values),
            memory_bytes=needs.memory_bytes,
            time=self._time(recipe, table, images, needs, session),
            results=[str(folder / what) for _, folder, _ in runs],
            result_bytes=saved,
            checkpoint_bytes=stage.keep_checkpoints * tensors * 4 * needs.parameters,
            warning=_seen(recipe, table),
            **known,
        )

    def _time(
        self, recipe: Any, pairs: TrainingPairs, images: int, needs: Needs, session: Session
    ) -> str:
        """How long `train` takes, in words: its first run is begun on a few of its images."""
        if torch.device(session.device).type == "cpu" and needs.step_macs > QUICK_MACS:
            return needs.time(session.device, len(runs_of(recipe, pairs, Path())))
        plan = settle(recipe.optimisation, Path(os.devnull), session.device, session.on_message)
        recipe = recipe.model_copy(update={"optimisation": plan})
        runs = [(one, rows_of(one, pairs)) for one, _ in runs_of(recipe, pairs, Path())]
        one, rows = runs[0]
        few = pairs.few([*rows.train, *rows.held_out], few_images(session.device))
        watch, took = Watch(), Duration(session.device)
        session.on_message(f"timing: {plural(len(few), 'image')} are encoded ...")
        began = time.monotonic()
        with TemporaryDirectory(prefix="vesalius-") as folder:
            material = self._prepare(
                one, few, Path(folder), Session(session.device, progress=watch)
            )
            method = self.method(one, material)
            started = time.monotonic() - began - watch.spent
            session.on_message("timing: a few steps are taken ...")
            timed = time_method(method, plan, Path(folder) / "run")
        took.add("encoding", watch.each * images)
        took.add("loading", started * len(runs))
        if not trains_text(recipe):
            base, some = material.base, list(dict.fromkeys(few.column("caption")))
            each = seconds_a_caption(base.tokenizer, base.text_encoder, some, base.caption_chunks)
            took.add("captions", each * len(set(pairs.column("caption"))))
        for run, of in runs:
            took.add_run("", timed, run.optimisation, (plan.seen_images,), len(of.held_out))
        if plan.sample_images:
            took.notes.append("samples not counted")
        return str(took)


def _named(session: Session, name: str) -> Session:
    """The session, whose progress of steps has this name."""
    return replace(session, steps=lambda _name, seen, total: session.steps(name, seen, total))


def _say_rows(rows: Rows, plan: Optimisation) -> str:
    """The images of a label that an adapter is trained on, and those it is validated on."""
    images, held_out = plural(len(rows.train), "image"), len(rows.held_out)
    text = f"{images}, {plan.seen_images / len(rows.train):.1f} epochs"
    if rows.held_out == rows.train[:held_out]:
        return f"{text}; none held out: the validation loss is that of training images"
    return f"{text}, {held_out:,} held out"


def _seen(recipe: FineTuneRecipe, pairs: TrainingPairs) -> str | None:
    table = pairs.first
    return seen_test_images(recipe.model, table.column, table.rows("test"))


def open_tables(recipe: FineTuneRecipe, pairs: Path) -> TrainingPairs:
    """The table, and that of the prior where the recipe names one."""
    return TrainingPairs(
        open_pairs(pairs), read_pairs(recipe.prior.pairs) if recipe.prior else None
    )


def rows_of(recipe: FineTuneRecipe, pairs: TrainingPairs) -> Rows:
    """The rows that the recipe trains on, those of its prior among them."""
    prior = recipe.prior
    return choose_rows(
        pairs,
        recipe.optimisation,
        label=getattr(recipe, "label", None),
        prior=pairs.added(),
        prior_share=prior.share if prior else 0.0,
        prior_weight=prior.weight if prior else 1.0,
    )


def runs_of(recipe: Any, pairs: TrainingPairs, out: Path) -> list[tuple[Any, Path]]:
    """The recipe and its folder, or those of each label where one is trained after the other."""
    if getattr(recipe, "per", "set") == "set":
        return [(recipe, out)]
    runs = []
    for label in labels_of(pairs, recipe.label):
        changes: dict[str, Any] = {"label": label}
        if isinstance(recipe, TextualInversionRecipe):
            token = {"token": token_of(pairs, label)}
            changes["embedding"] = recipe.embedding.model_copy(update=token)
        runs.append((recipe.model_copy(update=changes), out / slug(label)))
    return runs


def labels_of(pairs: TrainingPairs, only: str | None) -> list[str]:
    """The labels that have training rows of their own. Raises VesaliusError where two are alike."""
    labels, added = pairs.column("label"), set(pairs.added())
    found = sorted({labels[row] or "" for row in pairs.rows("train") if row not in added} - {""})
    if only is not None:
        found = [only]
    if not found:
        raise VesaliusError("per: label needs labels, and the pairs have none: choose per: set")
    folders = [slug(label) for label in found]
    if twice := {name for name in folders if folders.count(name) > 1}:
        raise VesaliusError(
            f"several labels would be trained into the folder {sorted(twice)[0]}: rename one"
        )
    return found


def token_of(pairs: TrainingPairs, label: str) -> str:
    """The new word for a label: its own images' caption where that is one, such as <pneumonia>."""
    labels, captions = pairs.column("label"), pairs.column("caption")
    own = [row for row in pairs.rows("train") if row < pairs.own]
    known = {captions[row] for row in own if labels[row] == label}
    word = known.pop() if len(known) == 1 else ""
    return word if re.fullmatch(r"<[^<>\s]+>", word) else f"<{slug(label)}>"


def _samples(recipe: FineTuneRecipe, session: Session) -> bool:
    return session.sampler is not None and recipe.optimisation.sample_images > 0


def _prompts(recipe: FineTuneRecipe, pairs: Pairs, rows: Rows) -> list[str]:
    if isinstance(recipe, TextualInversionRecipe):
        return recipe.prompts or [recipe.embedding.token]
    return sample_prompts(recipe.prompts, pairs, rows)


def _notes(recipe: Any, base: Generator, pairs: Pairs, rows: list[int]) -> dict[str, Any]:
    """What every adapter says of itself: base, settings, and a hash of what it was trained on."""
    return {
        "kind": recipe.method,
        "recipe": recipe.name,
        "base": base.name,
        "base_hash": base.model_hash,
        "licence": recipe.licence,
        "size": recipe.size,
        "training_rows_sha256": TrainedOn.of_rows("", pairs.column, rows).digest,
        "vesalius": __version__,
        **recipe.sampler.model_dump(exclude_none=True),
    }
