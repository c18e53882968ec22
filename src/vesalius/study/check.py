"""Can a machine tell the arms of a study by what is not the picture?"""

from pathlib import Path
from typing import Any

from vesalius.core.callable_room import callable_as
from vesalius.errors import VesaliusError
from vesalius.study.settings import CheckSettings

callable_as(__name__, f"{__name__}:check")


def check(folder: Path | str, settings: CheckSettings | None = None) -> Any:
    """Not yet here."""
    raise VesaliusError("`vesalius study check` does not exist yet")
