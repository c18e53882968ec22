"""From what a user calls a model to the folder that holds it: bundled name, local folder, hub id."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from vesalius.core.documents import read_json
from vesalius.core.paths import did_you_mean_path, expanded
from vesalius.core.words import nearest
from vesalius.errors import VesaliusError
from vesalius.models.folder import ROLES, check_folder

_SETTINGS = {
    "steps": (int,),
    "guidance": (int, float),
    "size": (int, str),
    "caption_chunks": (int,),
    "bits": (int,),
    "sampler": (str,),
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def bundled_models() -> dict[str, Path]:
    """The models inside this package: name to folder."""
    root = Path(str(files("vesalius"))) / "bundled"
    found = root.iterdir() if root.is_dir() else []
    return {path.name: path for path in sorted(found) if (path / "model_index.json").is_file()}


def locate(model: str | Path) -> Path:
    """The folder of `model`. The hub is contacted only for a hub id that is not in the cache.

    Raises VesaliusError when there is no such model.
    """
    name = str(model)
    if name in (bundled := bundled_models()):
        return bundled[name]
    if not name.strip():
        raise VesaliusError("no model is given")
    path = expanded(name)
    if path.is_dir():
        return path
    if path.exists():
        raise VesaliusError(f"{name} is a file: a model is a folder in diffusers layout")
    if is_hub_id(name):
        return _from_hub(name)
    if "/" in name or "\\" in name:
        raise VesaliusError(f"there is no folder {name}{did_you_mean_path(path)}")
    known = ", ".join(bundled) or "none in this installation"
    near = nearest(name, bundled)
    hint = f": did you mean {near}?" if near else did_you_mean_path(path)
    raise VesaliusError(
        f"unknown model {name!r}{hint or ':'} bundled models: {known}; a local folder or a hub id like "
        "stable-diffusion-v1-5/stable-diffusion-v1-5 works too"
    )


def is_hub_id(name: str) -> bool:
    """Whether a name that is no folder here is one of the hub: a missing file of a run is not."""
    own = Path(name).parent.is_dir() or Path(name).name in ("generator", "adapter", "text_encoder")
    return bool(_HUB_ID.fullmatch(name)) and not own


def local_folder(model: str) -> Path | None:
    """The model's folder if it is on this machine. Raises VesaliusError where it is no model."""
    if model in bundled_models() or Path(model).is_dir() or not is_hub_id(model):
        return locate(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _from_hub(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = ["model_index.json", "vesalius.json"]
    wanted += [f"{role}/*{ending}" for role in ROLES for ending in (".json", ".txt", ".model")]
    wanted += [f"{role}/*.safetensors" for role in ROLES]
    # one set of weights, not every copy of them that the hub may keep side by side
    unwanted = ["*fp16*", "*non_ema*", "*ema_only*"]
    try:
        cached = Path(
            snapshot_download(
                repo, local_files_only=True, allow_patterns=wanted, ignore_patterns=unwanted
            )
        )
        if _complete(cached):
            return cached
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(repo, allow_patterns=wanted, ignore_patterns=unwanted))
    except GatedRepoError as error:
        raise VesaliusError(
            f"{repo} is gated: accept its licence on the hub, then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise VesaliusError(f"there is no folder {repo}, and no such model on the hub") from error
    except Exception as error:  # no network, a proxy, a full disk: each has its own type
        raise VesaliusError(
            f"there is no folder {repo}, the hub cache does not hold it whole, and the hub cannot "
            f"be reached: run `hf download {repo}` where there is a network, or give a folder"
        ) from error


def _complete(folder: Path) -> bool:
    """Whether a cached snapshot has every file: a download may have been cut short."""
    try:
        check_folder(folder)
    except VesaliusError:
        return False
    return True


def read_settings(folder: Path) -> dict[str, Any]:
    """`vesalius.json` of a model folder: preferred steps, guidance, size; licence. May be empty.

    Raises VesaliusError naming the entry that has the wrong type.
    """
    path = folder / "vesalius.json"
    if not path.is_file():
        return {}
    settings = read_json(path)
    for key, kinds in _SETTINGS.items():
        if key in settings and type(settings[key]) not in kinds:
            raise VesaliusError(f"{path}: {key} cannot be {settings[key]!r}")
    return settings
