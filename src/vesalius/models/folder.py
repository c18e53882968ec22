"""A model folder on disk, checked before any of it is loaded, and its fingerprint. No torch here."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

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
LONGEST_HEADER = 100_000_000  # bytes, the safetensors library's own limit
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
        read_json(folder / role / "config.json")
        for path in weight_files(folder, role):
            safetensors_header(path)
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
    if single.is_file():
        return [single]
    index = single.with_name(single.name + ".index.json")
    if index.is_file():
        shards = sorted({str(name) for name in read_json(index).get("weight_map", {}).values()})
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


def pixels_per_cell(folder: Path) -> int:
    """Pixels of an image for one cell of its latents, along a side."""
    config = read_json(folder / "vae" / "config.json")
    levels = config.get("block_out_channels") or config["encoder_block_out_channels"]
    return 2 ** (len(levels) - 1)


def missing_weights(report: Mapping[str, Any]) -> list[str]:
    """What the files of a network lack, by the report of its loading, and prompts depend on.

    Libraries fill missing weights with noise and only warn. Those of a pooling layer do not count:
    prompts use token states alone.
    """
    unused = ("pooler.", "position_ids")
    return sorted(key for key in report["missing_keys"] if not any(u in key for u in unused))


def stored_parameters(folder: Path, role: str) -> int:
    """The numbers in a component's weight files, from their headers alone."""
    headers = [safetensors_header(path) for path in weight_files(folder, role)]
    tensors = [t for header in headers for key, t in header.items() if key != "__metadata__"]
    return sum(math.prod(tensor["shape"]) for tensor in tensors)


def safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name to dtype, shape and data_offsets.

    The format: 8 bytes little-endian header length, a JSON header, then the tensors, which fill
    the rest of the file without gaps (https://huggingface.co/docs/safetensors).
    Raises VesaliusError unless the file is whole and what it claims to be.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        disguise = _disguise(start)
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            why = disguise or ("it is empty" if size == 0 else "it is cut short or corrupt")
            raise VesaliusError(f"{path} is not a safetensors file ({why}): get it again")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        ends = [t["data_offsets"][1] for key, t in header.items() if key != "__metadata__"]
        end = max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        why = disguise or "its header is corrupt"
        raise VesaliusError(f"{path} is not a safetensors file ({why}): get it again") from error
    if end != size - 8 - length:
        raise VesaliusError(
            f"{path} is corrupt: its header promises {end:,} bytes of tensors, and there are "
            f"{size - 8 - length:,}: get it again"
        )
    return header


def _disguise(start: bytes) -> str | None:
    """What a file that is not safetensors looks like, from its first bytes."""
    if start.startswith(b"PK"):
        return "it looks like a zip archive, such as torch.save writes: a pickle"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "it looks like a pickle"
    if start.startswith(b"version "):
        return "it is a Git LFS pointer: run `git lfs pull`"
    return None


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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises VesaliusError naming the file if it is anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise VesaliusError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise VesaliusError(f"{path} must hold a JSON object")
    return content
