"""Recipes of trainings with a guarantee for each patient, and what does not go with one."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vesalius.config.recipes import (
    Count,
    FineTuneRecipe,
    LoraRecipe,
    Optimisation,
    Part,
    Positive,
    TextualInversionRecipe,
)

FEWEST_CANARIES = 32  # below, chance may put all on one side


def _enough(value: int) -> int:
    """No canaries, or as many as can show something."""
    if 0 < value < FEWEST_CANARIES:
        raise ValueError(f"{value} canaries show nothing: take {FEWEST_CANARIES} at least, or 0")
    return value


Canaries = Annotated[int, Field(ge=0), AfterValidator(_enough)]


def _finite(value: Any) -> Any:
    """An infinite epsilon is none."""
    return None if value in (float("inf"), "inf") else value


class Guarantee(Part):
    """(epsilon, delta)-differential privacy of each patient: see docs/privacy.md.

    Neighbouring tables differ in one patient, who counts for nothing in one of them: how many
    patients there are, and in which split each is, is public.
    """

    unit: Literal["group"] = "group"  # a patient, with all images; rows without one are refused
    neighbours: Literal["zero_out"] = "zero_out"
    # null: no noise is added, and nothing is guaranteed; for comparison alone
    epsilon: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_finite)]
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None  # None: 1 / (10 patients)
    runs: Positive = 1  # trainings on these patients, of which the guarantee covers all together
    canaries: Canaries = 0  # of an audit of this training; 0: none is made


class PrivacySettings(Guarantee):
    """Gradients clipped by patient, summed with noise: DP-SGD with patients as its examples."""

    clip_norm: Annotated[float, Field(gt=0)] = 1e-3  # of a patient's gradient
    patients_per_step: Positive  # expected; each is drawn with the chance of this over all patients
    steps: Positive
    # a patient's gradient is the mean over so many images, each noised so many times
    images_per_patient: Positive = 4
    noise_draws: Positive = 8


class PrivateOptimisation(Optimisation):
    """One private training. `batch` and `seen_images` follow from the part `privacy`.

    `micro` are noised images of one patient in a forward pass; None: all.
    """

    seen_images: Count = 0  # pyright: ignore[reportIncompatibleVariableOverride]
    batch: Count = 0  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _whole_steps(self) -> "PrivateOptimisation":
        return self

    @model_validator(mode="after")
    def _unweighted(self) -> "PrivateOptimisation":
        weighted = {"balance": self.balance != "none", "temperature": self.temperature != 1}
        for name in (name for name, given in weighted.items() if given):
            raise ValueError(
                f"{name} draws some images more often than others, and the guarantee counts on each "
                f"patient being drawn with the same chance, independently: leave {name} out"
            )
        if self.optimiser != "adamw":
            raise ValueError("a private training takes adamw")
        if told := {*self.loggers} - {"tensorboard"}:
            raise ValueError(
                f"{min(told)} would be told losses on patients, which no guarantee covers: the run's own "
                "log stays with its checkpoints"
            )
        return self


def _one_training(recipe: FineTuneRecipe) -> None:
    """Raise ValueError for what a guarantee does not go with."""
    if recipe.prior:
        raise ValueError(
            "prior weighs images of another table, which the guarantee does not count: leave it out"
        )
    if getattr(recipe, "per", "set") != "set":
        raise ValueError(
            "per: label trains once for each label, and a patient with several labels would be "
            "counted as in one training: take per: set, or label: NAME with privacy.runs trainings"
        )


def _same_length(privacy: PrivacySettings, plan: PrivateOptimisation) -> None:
    """Raise ValueError for a length in images that is not that of the part `privacy`."""
    batch = privacy.patients_per_step * privacy.images_per_patient
    for name, own in (("batch", batch), ("seen_images", batch * privacy.steps)):
        if getattr(plan, name) not in (0, own):
            raise ValueError(
                f"optimisation.{name} follows from privacy.steps, patients_per_step and "
                f"images_per_patient ({own:,} here): leave it out"
            )


class PrivateSteps(FineTuneRecipe):
    """What the recipes share whose every step is private."""

    privacy: PrivacySettings
    optimisation: PrivateOptimisation  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _goes_together(self) -> "PrivateSteps":
        _one_training(self)
        _same_length(self.privacy, self.optimisation)
        return self


class DpLoraRecipe(PrivateSteps, LoraRecipe):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A LoRA with a guarantee for each patient."""

    method: Literal["dp-lora"]  # pyright: ignore[reportIncompatibleVariableOverride]


class DpTextualInversionRecipe(  # pyright: ignore[reportIncompatibleVariableOverride]
    PrivateSteps, TextualInversionRecipe
):
    """New words with a guarantee for each patient."""

    method: Literal["dp-textual-inversion"]  # pyright: ignore[reportIncompatibleVariableOverride]


class DpAggregateRecipe(TextualInversionRecipe):
    """The mean of one inversion for each patient, with noise (DPAgg-TI): for few patients.

    `optimisation` is that of one patient's inversion.
    """

    method: Literal["dp-aggregate"]  # pyright: ignore[reportIncompatibleVariableOverride]
    privacy: Guarantee
    optimisation: PrivateOptimisation  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _goes_together(self) -> "DpAggregateRecipe":
        _one_training(self)
        if not (self.optimisation.seen_images and self.optimisation.batch):
            raise ValueError("optimisation needs seen_images and batch, of one patient's inversion")
        return self
