"""Fix protocol, images and key before the first answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vesalius.core.callable_room import callable_as
from vesalius.errors import VesaliusError
from vesalius.study.settings import LockSettings

callable_as(__name__, f"{__name__}:lock")


def lock(
    folder: Path | str,
    settings: LockSettings | None = None,
    *,
    on_warning: Callable[[str], object] = lambda message: None,
) -> Any:
    """Not yet here."""
    raise VesaliusError("`vesalius study lock` does not exist yet")
