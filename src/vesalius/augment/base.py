"""The base model: where it is, what it is, and what it was trained on."""

from dataclasses import dataclass
from pathlib import Path

from vesalius.core.documents import read_json
from vesalius.errors import VesaliusError
from vesalius.models.folder import check_folder, folder_hash, pixels_per_cell
from vesalius.models.locate import bundled_models, local_folder, locate, read_settings
from vesalius.models.trained_on import training_digest


@dataclass(frozen=True)
class Base:
    """A generator in the diffusers layout."""

    name: str  # as the user calls it
    folder: Path
    hash: str
    size: int  # pixels of a side that it is made for
    bundled: bool
    trained_on: str | None  # SHA-256 over its training images, where it says

    @property
    def rows(self) -> list[Path]:
        """Where it lists its training images; bundled models are known anyway."""
        return [self.folder] if self.trained_on and not self.bundled else []


def find_base(name: str, *, download: bool) -> Base:
    """The model `name`: a bundled name, a folder, or a hub id, which is fetched if `download`.

    Raises VesaliusError where there is none, or it would have to be fetched and may not be.
    """
    folder = locate(name) if download else local_folder(name)
    if folder is None:
        raise VesaliusError(
            f"the model {name} is not on this machine: run `hf download {name}` first, or leave out "
            "--dry-run"
        )
    check_folder(folder)
    return Base(
        name,
        folder,
        folder_hash(folder),
        _size(folder),
        name in bundled_models(),
        training_digest(folder),
    )


def _size(folder: Path) -> int:
    """Pixels of a side, the shorter where it is made for two."""
    own = read_settings(folder).get("size")
    if own is not None:
        return min(int(side) for side in str(own).split("x"))
    side = read_json(folder / "unet" / "config.json")["sample_size"]
    return (min(side) if isinstance(side, list) else int(side)) * pixels_per_cell(folder)
