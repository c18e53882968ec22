"""Recipes: YAML files that say everything a training run needs, checked before anything starts.

A recipe names the models and one block of settings for each stage that is trained. Overrides are
`key.sub=value` strings, their values read as YAML. Every error names the field that is wrong.
"""

from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vesalius.errors import VesaliusError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Part(BaseModel):
    """Base of every recipe part: unknown fields are errors, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimisation(Part):
    """One training stage. Its length and every interval are counted in images seen."""

    seen_images: Positive
    batch: Positive
    lr: Annotated[float, Field(gt=0)]
    warmup_images: Annotated[int, Field(ge=0)] = 0
    decay_images: Annotated[int, Field(ge=0)] = 0  # linear decay to zero over the last so many
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    ema_half_life_images: Annotated[int, Field(ge=0)] = 0  # 0: no averaging
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    temperature: Fraction = 1.0  # a set of n images is drawn with weight n ** temperature
    seed: int = 0
    validate_images: Positive
    validation_size: Positive = 512
    checkpoint_images: Positive
    compile: bool = False


class AutoencoderRecipe(Part):
    """The autoencoder: a diffusers class, its arguments, where it starts, and its losses."""

    kind: str = "AutoencoderTiny"
    arguments: dict[str, Any] = {}
    init: str | None = None  # of published weights: <init>_encoder.safetensors and _decoder
    crop: Positive = 128
    lpips_weight: Annotated[float, Field(ge=0)] = 0.5
    optimisation: Optimisation


class DenoiserRecipe(Part):
    """The denoiser: a diffusers U-Net's arguments and what it learns to predict."""

    arguments: dict[str, Any]
    views: Annotated[int, Field(ge=1, le=8)] = 1  # cached symmetric views of a row that allows them
    caption_dropout: Fraction = 0.1
    time_logit_std: Annotated[float, Field(gt=0)] = 1.0
    optimisation: Optimisation


class TextEncoderRecipe(Part):
    """A pretrained text encoder: a local folder, a known PyPI package's alias or a hub id."""

    source: str
    tokens: Positive


class SamplerRecipe(Part):
    """The scheduler that is saved with the generator, and its default use."""

    steps: Positive
    guidance: Annotated[float, Field(ge=0)]
    scheduler: dict[str, Any]


class Recipe(Part):
    """Everything that a run from scratch needs besides the pairs."""

    name: str
    licence: str = "not stated"  # of the weights that come out
    size: Positive
    text_encoder: TextEncoderRecipe
    autoencoder: AutoencoderRecipe
    denoiser: DenoiserRecipe
    sampler: SamplerRecipe


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """Read a bundled recipe by name or any YAML file by path, and apply `key.sub=value` overrides.

    Raises VesaliusError naming the field that is missing, unknown or out of range.
    """
    source = Path(name) if name.endswith((".yaml", ".yml")) else None
    if source is None:
        source = Path(str(files("vesalius") / "recipes" / f"{name}.yaml"))
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in source.parent.glob("*.yaml"))) or "none"
        raise VesaliusError(f"no recipe {name!r}: give a .yaml file or a bundled name ({known})")
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise VesaliusError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise VesaliusError(f"{source} is not a recipe: it should be a mapping of fields")
    for override in overrides or []:
        _apply(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise VesaliusError(f"recipe {name}: {field}: {first['msg'].lower()}") from error


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
    values[last] = yaml.safe_load(text)
    # YAML reads 1e-4 as text; a number is what was meant.
    if isinstance(values[last], str):
        with suppress(ValueError):
            values[last] = float(values[last])
