"""What this machine and this installation can do, for `vesalius info`."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import Any

from vesalius import __version__
from vesalius.errors import VesaliusError
from vesalius.models.folder import WEIGHTS, safetensors_header, weight_files
from vesalius.models.locate import bundled_models, read_settings

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
        headers = [safetensors_header(path) for path in files]
    except VesaliusError as error:
        return {"name": name, "broken": str(error)}
    tensors = [t for header in headers for key, t in header.items() if key != "__metadata__"]
    return {
        "name": name,
        "parameters": sum(_product(tensor["shape"]) for tensor in tensors),
        "bytes": sum(path.stat().st_size for path in files),
        "licence": read_settings(folder).get("licence", "not stated"),
    }


def extras() -> list[dict[str, Any]]:
    """The optional parts that this package declares, and which of their packages are missing."""
    try:
        declared = requires("vesalius") or []
    except PackageNotFoundError:  # run from a source tree
        return []
    needed: dict[str, list[str]] = {}
    for requirement in declared:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        package = re.match(r"[\w.-]+", requirement)
        if extra and package and package[0] != "vesalius":
            needed.setdefault(extra[1], []).append(package[0])
    return [
        {"extra": extra, "missing": [name for name in packages if not _version(name)]}
        for extra, packages in sorted(needed.items())
    ]


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


def _product(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
