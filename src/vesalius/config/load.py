"""Recipes read from YAML files, with overrides; every error names the field that is wrong."""

from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vesalius.config.private import DpAggregateRecipe, DpLoraRecipe, DpTextualInversionRecipe
from vesalius.config.recipes import (
    ContrastiveRecipe,
    FullRecipe,
    LoraRecipe,
    Part,
    Recipe,
    TextualInversionRecipe,
)
from vesalius.core.documents import parse_yaml, read_yaml
from vesalius.core.paths import did_you_mean_path
from vesalius.core.registry import Registry
from vesalius.core.words import did_you_mean, nearest
from vesalius.errors import VesaliusError

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
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]  # names and values keep their case
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
