"""Paths as people write them."""

from pathlib import Path

from vesalius.errors import VesaliusError


def expanded(path: Path | str) -> Path:
    """The path with `~` replaced. Raises VesaliusError where that names no user of this machine."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise VesaliusError(f"{path}: there is no such user on this machine") from error
