"""A model folder on disk, checked before any of it is loaded, and its fingerprint. No torch here."""

import hashlib
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from vesalius.core.documents import read_json
from vesalius.core.tensors import read_header
from vesalius.errors import VesaliusError

ROLES = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
# role -> the stem of its weight file
WEIGHTS = {
    "vae": "diffusion_pytorch_model",
    "unet": "diffusion_pytorch_model",
    "text_encoder": "model",
}
# The denoiser of our own that a folder may name. Stock diffusers writes and needs the full path,
# and loads the folder once that module is imported.
OWN_DENOISER = ("vesalius.models.uvit", "UViT")
IGNORED = ("safety_checker", "feature_extractor", "image_encoder")
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")
_MOST_BLOCKS = 512  # of one kind in a network
_LARGEST = 1_000_000  # of any other size, a vocabulary's for one
PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def check_folder(folder: Path) -> dict[str, str]:
    """Check that `folder` is a whole model in diffusers layout; return role to class name.

    Raises VesaliusError naming the file that is missing, broken, or not what it claims to be.
    """
    index_path = folder / "model_index.json"
    if not index_path.is_file():
        raise VesaliusError(f"{folder} is not a whole model: model_index.json is missing")
    index = read_json(index_path)
    classes = {role: _class_name(folder, index, role) for role in ROLES}
    extra = [
        role
        for role, entry in index.items()
        if isinstance(entry, list) and entry[:1] != [None] and role not in (*ROLES, *IGNORED)
    ]
    if extra:
        raise VesaliusError(
            f"{folder} is a {index.get('_class_name')} with {', '.join(extra)}: only models in the "
            "layout of Stable Diffusion 1.x and 2.x can be loaded"
        )
    for role in WEIGHTS:
        _require(folder / role / "config.json", folder)
        _check_sizes(folder / role / "config.json")
        _check_alone(folder / role)
        for path in weight_files(folder, role):
            read_header(path)
    _require(folder / "scheduler" / "scheduler_config.json", folder)
    if not any((folder / "tokenizer" / name).is_file() for name in _VOCABULARIES):
        _require(folder / "tokenizer" / "tokenizer.json", folder)
    return classes


def _class_name(folder: Path, index: dict, role: str) -> str:
    entry = index.get(role)
    if not isinstance(entry, list) or len(entry) != 2 or None in entry:
        raise VesaliusError(f"{folder} is not a whole model: model_index.json names no {role}")
    library, name = entry
    if role == "unet" and (library, name) in (OWN_DENOISER, ("vesalius", OWN_DENOISER[1])):
        return str(name)
    expected = "transformers" if role in ("text_encoder", "tokenizer") else "diffusers"
    if library != expected:
        raise VesaliusError(
            f"{folder}: its {role} is {library}.{name}, but code outside {expected} is not run"
        )
    return str(name)


def _require(path: Path, folder: Path) -> None:
    if not path.is_file():
        raise VesaliusError(f"{folder} is not a whole model: {path.relative_to(folder)} is missing")


def variant(folder: Path, role: str) -> str | None:
    """`fp16` where a component has only half-precision weights, else None."""
    names = (f"{WEIGHTS[role]}.safetensors", f"{WEIGHTS[role]}.safetensors.index.json")
    if any((folder / role / name).is_file() for name in names):
        return None
    half = folder / role / f"{WEIGHTS[role]}.fp16.safetensors"
    return "fp16" if half.is_file() else None


def weight_files(folder: Path, role: str) -> list[Path]:
    """The safetensors files of a component, shards included. Raises VesaliusError if none."""
    stem = WEIGHTS[role]
    single = folder / role / f"{stem}.safetensors"
    if variant(folder, role) == "fp16":
        return [single.with_name(f"{stem}.fp16.safetensors")]
    index = single.with_name(single.name + ".index.json")
    if single.is_file():
        if index.is_file():  # libraries differ in which of the two they read
            raise VesaliusError(
                f"{single} lies beside {index.name}: delete the one that is not meant"
            )
        return [single]
    if index.is_file():
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise VesaliusError(f"{index} names no files in its weight_map: get it again")
        shards = sorted({str(name) for name in places.values()})
        for name in shards:
            if Path(name).name != name:  # an index must not lead out of its folder
                raise VesaliusError(f"{index} names {name!r}, which is not a file beside it")
            _require(index.with_name(name), folder)
        return [index.with_name(name) for name in shards]
    component = folder / role
    pickles = [p.name for p in component.glob("*") if p.suffix in PICKLES]
    if pickles:
        raise VesaliusError(
            f"{component} has its weights only as {sorted(pickles)[0]}: pickle is refused because "
            "loading it can run any code; convert it to safetensors"
        )
    raise VesaliusError(f"{folder} is not a whole model: {single.relative_to(folder)} is missing")


def _check_alone(component: Path) -> None:
    """Refuse an adapter in a component: transformers applies it, and the hash would not know of it."""
    if found := sorted(component.glob("adapter_*")):
        raise VesaliusError(
            f"{found[0]} lies in a model: an adapter there changes what it computes without a word; "
            "move it out, and give it with --adapter"
        )


def _check_sizes(path: Path) -> None:
    """Refuse a configuration that could exhaust the machine before a weight is read."""
    for name, value in read_json(path).items():
        values = _flat(value)
        deep = any(word in name for word in ("layers", "blocks", "depth"))
        most = _MOST_BLOCKS if deep else _LARGEST
        if len(values) > _MOST_BLOCKS or any(isinstance(v, int) and v > most for v in values):
            raise VesaliusError(f"{path}: {name} is larger than any network's: get it again")


def _flat(value: Any) -> list[Any]:
    return [v for one in value for v in _flat(one)] if isinstance(value, list) else [value]


def pixels_per_cell(folder: Path) -> int:
    """Pixels of an image for one cell of its latents, along a side."""
    config = read_json(folder / "vae" / "config.json")
    levels = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return 2 ** (len(levels) - 1)


def cells_multiple(denoiser: Mapping[str, Any]) -> int:
    """Sides of latents must be multiples of this: of a patch, or of a cell of the lowest level."""
    return denoiser.get("patch_size") or 2 ** (len(denoiser["block_out_channels"]) - 1)


def native_pixels(denoiser: Mapping[str, Any], factor: int) -> tuple[int, int]:
    """Width and height that a denoiser was trained for, `factor` pixels a cell."""
    cells = denoiser["sample_size"]
    height, width = (cells, cells) if isinstance(cells, int) else cells
    return width * factor, height * factor


def missing_weights(report: Mapping[str, Any]) -> list[str]:
    """What the files of a network lack, by the report of its loading, and prompts depend on.

    Libraries fill missing weights with noise and only warn. Those of a pooling layer do not count:
    prompts use token states alone.
    """
    unused = ("pooler.", "position_ids")
    return sorted(key for key in report["missing_keys"] if not any(u in key for u in unused))


def stored_parameters(folder: Path, role: str) -> int:
    """The numbers in a component's weight files, from their headers alone."""
    headers = [read_header(path) for path in weight_files(folder, role)]
    tensors = [t for header in headers for key, t in header.items() if key != "__metadata__"]
    return sum(math.prod(tensor["shape"]) for tensor in tensors)


def model_files(folder: Path) -> list[Path]:
    """Every file that decides what the model computes: configurations, vocabularies, weights."""
    configs = [
        path
        for role in ROLES
        for path in (folder / role).iterdir()
        if path.suffix in (".json", ".txt", ".model")
    ]
    weights = [path for role in WEIGHTS for path in weight_files(folder, role)]
    return sorted({folder / "model_index.json", *configs, *weights})


def folder_hash(folder: Path) -> str:
    """16 hex digits: SHA-256 over the names and contents of `model_files`."""
    paths = model_files(folder)
    stamps = tuple((str(p), os.stat(p).st_size, os.stat(p).st_mtime_ns) for p in paths)
    return _hash_files(str(folder), stamps)


@lru_cache(maxsize=16)
def _hash_files(folder: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    # size and time are in the cache's key only: a changed file is read again
    total = hashlib.sha256()
    for name, _size, _time in stamps:
        with open(name, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        total.update(Path(name).relative_to(folder).as_posix().encode() + b"\0" + content)
    return total.hexdigest()[:16]
