"""What this machine and this installation can do, for `vesalius info`."""

import os
import platform
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius._version import __version__
from vesalius.errors import VesaliusError
from vesalius.models.folder import WEIGHTS, stored_parameters, weight_files
from vesalius.models.locate import bundled_models, read_settings

if TYPE_CHECKING:
    from vesalius.models.cost import Cost

LONGEST_FACT = 34
COST_NOTES = """\
GMACs are 1e9 multiply-accumulates of one denoiser call for one image; guidance makes two a step,
and training costs three. thop leaves attention products out; the last row has them, without
LayerNorm. Training is full fine-tuning of the denoiser on cached latents, estimated: 20 bytes a
parameter for float32 weights, gradients, two moments and an average; an image adds the bfloat16
activations that uncompiled code keeps, without checkpointing."""
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


def cost_report(models: list[str]) -> str:
    """A table of what `models` cost, one column each, beside Chest-Diffusion and SD 1.x.

    A model is a bundled name, a folder or a hub id; the others are built in. No weight is read.
    Raises VesaliusError for a model that cannot be loaded.
    """
    from vesalius.models import cost
    from vesalius.models.generator import load_skeleton

    skeletons = [load_skeleton(model) for model in models]
    skeletons += [cost.chest_diffusion(), cost.stable_diffusion(256), cost.stable_diffusion(512)]
    columns = [_cost_column(cost.cost_of(skeleton)) for skeleton in skeletons]
    widths = [max(map(len, column.values())) for column in columns]
    lines = [
        f"{fact:<{LONGEST_FACT}}"
        + "".join(f"  {c[fact]:>{w}}" for c, w in zip(columns, widths, strict=True))
        for fact in columns[0]
    ]
    return "\n".join([*lines, "", COST_NOTES])


def _cost_column(cost: "Cost") -> dict[str, str]:
    import torch

    def giga(count: float) -> str:
        return f"{count / 1e9:,.2f}"

    parameters = {role: f"{count / 1e6:,.1f}" for role, count in cost.parameters.items()}
    return {
        "": cost.name,
        "image, pixels": f"{cost.size[0]}x{cost.size[1]}",
        "text states": str(cost.tokens),
        "parameters, M: denoiser": parameters["unet"],
        "  autoencoder": parameters["vae"],
        "  text encoder": parameters["text_encoder"],
        "weights, GB: float32": giga(cost.weight_bytes(torch.float32)),
        "  float16 or bfloat16": giga(cost.weight_bytes(torch.bfloat16)),
        "denoiser, GMACs: linear and conv": giga(cost.step.linear_and_conv),
        "  and LayerNorm, as thop counts": giga(cost.step.by_layers),
        "  with attention products": giga(cost.step.products),
        "decoding, GMACs with attention": giga(cost.decoding.products),
        "training, GB: at rest": giga(cost.training_bytes(0)),
        "  each image of a forward pass": f"{cost.saved_bytes / 1e9:,.3f}",
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
