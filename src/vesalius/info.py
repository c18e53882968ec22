"""What this machine and this installation can do, for `vesalius info`."""

import os
import platform
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius._version import __version__
from vesalius.core.words import nearest
from vesalius.errors import VesaliusError
from vesalius.models.folder import WEIGHTS, stored_parameters, weight_files
from vesalius.models.locate import bundled_models, read_settings

if TYPE_CHECKING:
    from vesalius.train.prices import Price

LONGEST_FACT = 34
NONE = "-"
COST_NOTES = """\
GMACs are 1e9 multiply-accumulates of one denoiser call for one image; guidance makes two a step,
and training costs three. thop, as papers quote it, leaves attention products out. Memory is
estimated, for cached latents: of a model named as such, and of SD 1.x, for training the whole
denoiser, 20 bytes a parameter for float32 weights, gradients, two moments and an average; an image
adds the bfloat16 activations that uncompiled code keeps, without checkpointing. Images a second
are of uncompiled training steps, in a recipe's precision; on a CPU one that would take seconds is
timed on a smaller image, and reckoned by its products."""
LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "pillow")


def describe() -> dict[str, Any]:
    """Versions, devices, formats, models and extras, as plain data."""
    return {
        "versions": {"vesalius": __version__, "python": platform.python_version()}
        | {name: _version(name) or "missing" for name in LIBRARIES},
        "devices": devices(),
        "models": [describe_model(name) for name in bundled_models()],
        "extras": extras(),
        "hub_cache": hub_cache(),
    }


def devices() -> list[dict[str, str]]:
    """The devices torch sees, the one that `auto` takes first, with memory and formats."""
    import torch

    from vesalius.models.device import pick_device, pick_formats

    found = [(f"cuda:{i}", _cuda_name(i)) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append(("mps", f"Apple GPU, memory shared with the CPU, {_ram()}"))
    found.append(("cpu", f"{platform.machine()}, {torch.get_num_threads()} threads, {_ram()}"))
    auto = pick_device().type
    rows = []
    for name, about in found:
        device = torch.device(name)
        bundled, other = (pick_formats(device, bundled=b).denoiser for b in (True, False))
        dtype = str(bundled).removeprefix("torch.")
        if other != bundled:
            dtype += f" (other models: {str(other).removeprefix('torch.')})"
        chosen = device.type == auto and device.index in (None, 0)
        rows.append({"device": name, "about": about, "dtype": dtype, "auto": "yes" * chosen})
    return rows


def describe_model(name: str) -> dict[str, Any]:
    """Parameters, bytes and licence of a bundled model, from its files' headers alone."""
    folder = bundled_models()[name]
    try:
        files = [path for role in WEIGHTS for path in weight_files(folder, role)]
        parameters = sum(stored_parameters(folder, role) for role in WEIGHTS)
    except VesaliusError as error:
        return {"name": name, "broken": str(error)}
    return {
        "name": name,
        "parameters": parameters,
        "bytes": sum(path.stat().st_size for path in files),
        "licence": read_settings(folder).get("licence", "not stated"),
    }


def prices(names: list[str], on_message: Callable[[str], None]) -> "list[Price]":
    """What recipes and models cost, in the order of their names, then the references beside them.

    A name is a bundled model's, a bundled recipe's or a .yaml file, a folder or a hub id. No weight
    is read. Raises VesaliusError for what is none of these, or cannot be loaded.
    """
    from vesalius.config import bundled_recipes, load_recipe
    from vesalius.models.device import pick_device
    from vesalius.train.prices import prices_of

    recipes = bundled_recipes().keys() - bundled_models().keys()
    for name in names:
        there = name in recipes or "/" in name or Path(name).exists() or name in bundled_models()
        if not there and (near := nearest(name, recipes)):
            raise VesaliusError(f"there is no recipe or model {name!r}: did you mean {near}?")
    things = [
        load_recipe(name) if name in recipes or name.endswith((".yaml", ".yml")) else name
        for name in names
    ]
    return prices_of(things, str(pick_device("auto")), on_message)


def cost_report(prices: "list[Price]") -> str:
    """Prices as a table, one column each, with the reasons for what it lacks."""
    columns = [_cost_column(price) for price in prices]
    widths = [max(map(len, column.values())) for column in columns]
    lines = [
        f"{fact:<{LONGEST_FACT}}"
        + "".join(f"  {c[fact]:>{w}}" for c, w in zip(columns, widths, strict=True))
        for fact in columns[0]
        if any(column[fact] != NONE for column in columns)
    ]
    reasons: dict[str, list[str]] = {}
    for price in prices:
        for fact, reason in price.left_out.items():
            reasons.setdefault(f"{fact}: {reason}", []).append(price.name)
    lines += ["", *(f"left out of {'; '.join(of)}: {why}" for why, of in reasons.items())]
    return "\n".join([*lines, *[""] * bool(reasons), COST_NOTES])


def _cost_column(price: "Price") -> dict[str, str]:
    def say(count: float | None, unit: float = 1e9, digits: int = 2) -> str:
        return NONE if count is None else f"{count / unit:,.{digits}f}"

    parameters, step, per_second = price.parameters, price.step, price.images_per_second
    known = [count for count in parameters.values() if count is not None]
    weights = sum(known) if len(known) == len(parameters) else None
    return {
        "": price.name,
        "image, pixels": f"{price.size[0]}x{price.size[1]}" if price.size else NONE,
        "text states": say(price.tokens, 1, 0),
        "parameters, M: denoiser": say(parameters["unet"], 1e6, 1),
        "  autoencoder": say(parameters["vae"], 1e6, 1),
        "  text encoder": say(parameters["text_encoder"], 1e6, 1),
        "  of these are trained": say(price.trained_parameters, 1e6, 3),
        "weights, GB: float32": say(weights and weights * 4),
        "  float16 or bfloat16": say(weights and weights * 2),
        "denoiser, GMACs: linear and conv": say(step and step.linear_and_conv),
        "  and LayerNorm, as thop counts": say(step and step.by_layers, digits=6),
        "  the same for four images": say(step and 4 * step.by_layers, digits=3),
        "  linear, conv and attention": say(step and step.products),
        "decoding, GMACs with attention": say(price.decoding and price.decoding.products),
        "training, GB: at rest": say(price.rest_bytes),
        "  each image of a forward pass": say(price.image_bytes, digits=3),
        "  images of a forward pass": say(price.images, 1, 0),
        "  all of them": say(price.memory_bytes, digits=1),
        "  images a second on this machine": say(per_second, 1, 1 if (per_second or 0) >= 1 else 3),
    }


def extras() -> list[dict[str, Any]]:
    """The optional parts that this package declares, and which of their packages are missing."""
    needed: dict[str, list[str]] = {}
    for extra, requirement in _declared():
        package = re.match(r"[\w.-]+", requirement)
        if package and package[0] != "vesalius":
            needed.setdefault(extra, []).append(package[0])
    return [
        {"extra": extra, "missing": [name for name in packages if not _version(name)]}
        for extra, packages in sorted(needed.items())
    ]


def _declared() -> list[tuple[str, str]]:
    """Each extra with each of its requirements; in a source tree, of which an install may be older, its own."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text("utf-8")).get("project", {})
        if table.get("name") == "vesalius":
            optional = table.get("optional-dependencies", {})
            return [(extra, each) for extra, listed in optional.items() for each in listed]
    try:
        declared = requires("vesalius") or []
    except PackageNotFoundError:
        return []
    marked = [(re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", each), each) for each in declared]
    return [(extra[1], each) for extra, each in marked if extra]


def hub_cache() -> str:
    """Where downloaded hub models lie."""
    if find_spec("huggingface_hub") is None:
        return "none (huggingface_hub is missing)"
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda_name(index: int) -> str:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def _ram() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return "memory unknown"
    return f"{size / 2**30:.0f} GiB"
