"""A fine-tuning with a guarantee for each patient: what it shares with any other, and what it leaves out.

Everything that is about patients (latents, log, checkpoints with the secret of the noise) is in
`out`/private, which stays where it is. `out`/adapter may be given away, with its card: it names no
training image, and no hash of their list.
"""

import json
import math
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vesalius.config import PrivacySettings
from vesalius.core.atomic import atomic_path
from vesalius.core.privacy_card import NOT_COVERED, Audit, PrivacyCard
from vesalius.core.trained_on import TrainedOn
from vesalius.errors import VesaliusError
from vesalius.models.embeddings import as_text
from vesalius.models.generator import Generator, load_skeleton
from vesalius.models.locate import local_folder
from vesalius.models.overlap import seen_people
from vesalius.train.distributed import on_first_rank, rank, world_size
from vesalius.train.estimate import Length, Needs, needs_of
from vesalius.train.fine_tuning import FineTuning, open_tables, rows_of
from vesalius.train.loop import train
from vesalius.train.privacy.accountant import Mechanism, accountant, calibrated
from vesalius.train.privacy.canaries import KEPT, Canaries, bound, new_coins
from vesalius.train.privacy.cost import PrivateEstimate, cost_of
from vesalius.train.privacy.gradient import PrivateGradient, new_secret
from vesalius.train.privacy.patients import rows_by_patient
from vesalius.train.resuming import settings_of
from vesalius.train.rows import TrainingPairs
from vesalius.train.session import Session, Trained

PRIVATE = "private"  # the part of a run's folder that is never given away
_NAMES_MEMBERS = ("training_rows_sha256", "captions")  # what other adapters say of themselves


@dataclass(frozen=True)
class Setting:
    """What a recipe comes to with so many patients."""

    patients: int  # n
    delta: float
    mechanism: Mechanism  # of one training
    runs: int

    @classmethod
    def of(cls, recipe: Any, patients: int) -> "Setting":
        """Calibrated to the recipe's epsilon, for all declared trainings together.

        Raises VesaliusError where more patients are to be drawn than there are.
        """
        privacy = recipe.privacy
        delta = privacy.delta or 1 / (10 * patients)
        if delta >= 1 / patients:
            raise VesaliusError(
                f"privacy.delta {delta:g} is not below one over the {patients:,} patients: it would "
                "allow that one of them is published as a whole"
            )
        rate, steps = 1.0, 1
        if isinstance(privacy, PrivacySettings):
            rate, steps = privacy.patients_per_step / patients, privacy.steps
        if rate > 1:
            raise VesaliusError(
                f"privacy.patients_per_step {privacy.patients_per_step:,} is more than the "
                f"{patients:,} patients that there are to train on: take fewer, or the recipe "
                "dp-aggregate, which is for few patients"
            )
        epsilon = math.inf if privacy.epsilon is None else privacy.epsilon
        sigma = calibrated(rate, steps * privacy.runs, epsilon, delta).sigma
        return cls(patients, delta, Mechanism(sigma, rate, steps), privacy.runs)

    def card(self, recipe: Any, dimensions: int, seen: int) -> PrivacyCard:
        """What is said of a model that was trained so; `seen` patients are in its base already."""
        counted = Mechanism(self.mechanism.sigma, self.mechanism.rate, self._steps)
        known = self.mechanism.sigma > 0
        pld, rdp = (counted.epsilon(self.delta, by) if known else None for by in ("pld", "rdp"))
        privacy, averaged = recipe.privacy, bool(recipe.optimisation.ema_half_life_images)
        many = isinstance(privacy, PrivacySettings)
        aggregated = "one inversion a patient, each of norm 1, their mean with noise once"
        return PrivacyCard(
            epsilon=pld,
            delta=self.delta,
            patients=self.patients,
            mechanism="gradients clipped by patient, Poisson sampling" if many else aggregated,
            sigma=self.mechanism.sigma,
            rate=self.mechanism.rate,
            steps=self.mechanism.steps,
            runs=self.runs,
            clip_norm=privacy.clip_norm if many else 1.0,
            patients_per_step=privacy.patients_per_step if many else self.patients,
            images_per_patient=privacy.images_per_patient if many else 0,
            noise_draws=privacy.noise_draws if many else 1,
            dimensions=dimensions,
            accountant=accountant(),
            epsilon_pld=pld,
            epsilon_rdp=rdp,
            not_covered=(*NOT_COVERED, base_has_seen(recipe.model, seen)) if seen else NOT_COVERED,
            weights="the average over the steps" if many and averaged else "the last",
        )

    @property
    def _steps(self) -> int:
        return self.mechanism.steps * self.runs


@dataclass(frozen=True)
class PrivateFineTuning(FineTuning):
    """A `Kind` that starts from a generator and trains with a guarantee."""

    work: str = PRIVATE

    def train(self, recipe: Any, pairs: Path, out: Path, session: Session) -> Trained:
        accountant()  # missing is said now, not after the training
        return super().train(with_length(recipe), pairs, out, session)

    def _check(self, recipe: Any, pairs: TrainingPairs, base: Generator) -> None:
        # a step's patients need not divide evenly among processes
        even = recipe.optimisation.model_copy(update={"batch": world_size(), "micro": 1})
        super()._check(recipe.model_copy(update={"optimisation": even}), pairs, base)
        Setting.of(recipe, len(patients_of(recipe, pairs)))

    def estimate(self, recipe: Any, pairs: Path, session: Session) -> PrivateEstimate:
        """What `train` would do, and what epsilon costs; nothing is downloaded or written."""
        accountant()
        recipe = with_length(recipe)
        privacy, plan = recipe.privacy, recipe.optimisation
        table = open_tables(recipe, pairs)
        patients = patients_of(recipe, table)
        inverted = None if isinstance(privacy, PrivacySettings) else len(patients)
        # what is computed: each image of a patient several times, or an inversion for each patient
        draws = getattr(privacy, "noise_draws", 1)
        computed = {
            "batch": plan.batch * draws,
            "seen_images": plan.seen_images * (inverted or draws),
        }
        computed["micro"] = plan.micro or getattr(privacy, "images_per_patient", plan.batch) * draws
        work = recipe.model_copy(update={"optimisation": plan.model_copy(update=computed)})
        plain = super().estimate(work, pairs, session)
        if seen := seen_people(recipe.model, table.column, rows_of(recipe, table).train):
            said = [plain.warning, base_has_seen(recipe.model, seen)]
            plain = replace(plain, warning="; ".join(filter(None, said)))
        plain = replace(plain, lengths={"length": Length.of(plan, plain.rows)})
        folder = local_folder(recipe.model)
        if folder is None:
            return PrivateEstimate.of(plain, None, inverted)
        width = int(load_skeleton(folder).text_encoder.get_input_embeddings().weight.shape[1])
        delta = Setting.of(recipe, len(patients)).delta
        trained = needs_of(recipe, folder).parameters
        cost = cost_of(privacy, len(patients), delta, trained, width)
        return PrivateEstimate.of(plain, cost, inverted)

    def _time(
        self, recipe: Any, pairs: TrainingPairs, images: int, needs: Needs, session: Session
    ) -> str:
        return needs.time(session.device, 1)  # of its steps alone: no noise is drawn to time them

    def _train_one(
        self, recipe: Any, pairs: TrainingPairs, out: Path, latents: Path, session: Session
    ) -> Trained:
        run = self._open(recipe, pairs, out, latents, session)
        method, privacy = run.method, recipe.privacy
        canaries = canaries_of(run, privacy)
        patients = [*run.patients, *(canaries.units if canaries else [])]
        method.gradient = PrivateGradient(
            method, patients, run.setting.mechanism, privacy, method.kept, canaries
        )
        method.flops = [flops * privacy.noise_draws for flops in method.flops]
        done = train(method, recipe.optimisation, out / PRIVATE, session)
        if canaries:
            run = replace(run, card=audited(run, session))
        on_first_rank(partial(save_private, run, done.best, out))
        return done.trained(out / "adapter", "adapter")

    def _open(
        self, recipe: Any, pairs: TrainingPairs, out: Path, latents: Path, session: Session
    ) -> "PrivateRun":
        """The method, ready to be trained, and whose rows it has; nothing here names them."""
        out_of_sight(out / PRIVATE)
        material = self._prepare(recipe, pairs, latents, session)
        rows, known = material.data.rows.train, material.notes
        material.notes = {k: v for k, v in known.items() if k not in _NAMES_MEMBERS}
        patients = rows_by_patient(pairs, rows)
        method: Any = self.method(recipe, material)
        # in checkpoints alone: noise must never be used again with other patients
        digest = TrainedOn.of_rows("", pairs.column, rows).digest
        method.settings = settings_of(recipe, model_hash=material.base.model_hash, rows=digest)
        if not (part := method.settings["privacy"]).get("canaries"):
            part.pop("canaries", None)  # as in checkpoints from before there were any
        method.keeps_last, method.kept = True, {"secret": new_secret()}
        trained = sum(p.numel() for p in method.module.parameters() if p.requires_grad)
        setting = Setting.of(recipe, len(patients))
        seen = seen_people(recipe.model, pairs.column, rows)
        if seen:
            session.on_warning(base_has_seen(recipe.model, seen))
        card = setting.card(recipe, trained, seen)
        material.notes |= {"privacy": card.claim}
        method.notes |= as_text({"privacy": card.claim})
        return PrivateRun(method, patients, setting, card, material.notes)


@dataclass(frozen=True)
class PrivateRun:
    """A private training, ready to begin."""

    method: Any
    patients: list[list[int]]
    setting: Setting
    card: PrivacyCard
    notes: dict[str, Any]  # what the adapter says of itself


def canaries_of(run: PrivateRun, privacy: PrivacySettings) -> Canaries | None:
    """The canaries that the recipe asks for, a parameter beside those of the model."""
    method = run.method
    if not privacy.canaries:
        return None
    method.kept[KEPT] = new_coins(privacy.canaries)
    first = len(method.row_weights)
    return Canaries.of(method.module, first, privacy, run.setting.mechanism, method.kept)


def audited(run: PrivateRun, session: Session) -> PrivacyCard:
    """The card with what canaries have shown of this training, of perhaps several that are counted.

    Raises VesaliusError where they refute its epsilon: a model is not given away on it.
    """
    card, own = run.card, run.setting.mechanism
    found = bound(run.method.kept, card.delta)
    claim = own.epsilon(card.delta) if own.sigma else None
    said = "no guarantee is claimed" if claim is None else f"{claim:.3g} is claimed"
    if rank() == 0:
        session.on_message(f"audit of this training: {found}; {said}")
    if claim is not None and found.epsilon > claim:
        raise VesaliusError(
            f"the audit refutes the guarantee: {found}, and {claim:.3g} is claimed. No adapter is "
            "written. The noise, the clipping or the draws of this installation are not what they "
            "should be: run its tests, and do not use what is in the run's private folder"
        )
    shown = Audit(found.epsilon, found.confidence, found.canaries, found.ceiling, claim)
    return replace(card, audit=shown)


def base_has_seen(model: str, patients: int) -> str:
    """What to say where a base model was trained on patients whom a guarantee is given to."""
    return (
        f"{patients:,} of these patients are among those whom {model} was trained on: the guarantee is "
        "of what the adapter adds, and not of what the base model knows of them"
    )


def with_length(recipe: Any) -> Any:
    """The recipe with its length in images, which follows from its part `privacy`."""
    privacy = recipe.privacy
    if not isinstance(privacy, PrivacySettings):
        return recipe
    batch = privacy.patients_per_step * privacy.images_per_patient
    length = {"batch": batch, "seen_images": batch * privacy.steps}
    plan = recipe.optimisation.model_copy(update=length)
    return recipe.model_copy(update={"optimisation": plan})


def patients_of(recipe: Any, pairs: TrainingPairs) -> list[list[int]]:
    """Places among the recipe's training rows, by patient."""
    return rows_by_patient(pairs, rows_of(recipe, pairs).train)


def out_of_sight(folder: Path) -> None:
    """Make the folder that nobody but the owner of these files may read."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def save_private(run: PrivateRun, best: Path, out: Path) -> None:
    """Write `out`/adapter: the weights, what the adapter says of itself, and the card."""
    with atomic_path(out / "adapter") as temporary:
        shutil.copytree(best, temporary)
        text = json.dumps(run.notes, indent=2) + "\n"
        (temporary / "adapter.json").write_text(text)
        run.card.write(temporary)
