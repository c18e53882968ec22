"""Draw, match and equalise the images of a study, and lay out every reader's trials."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vesalius.core.callable_room import callable_as
from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.study.settings import BuildSettings

callable_as(__name__, f"{__name__}:build")


def build(
    real: Path | str,
    synthetic: Mapping[str, Path | str],
    out: Path | str,
    settings: BuildSettings | None = None,
    *,
    progress: Progress = no_progress,
    on_warning: Callable[[str], object] = lambda message: None,
) -> Any:
    """Make the folder of a study. Not yet here."""
    raise VesaliusError("`vesalius study build` does not exist yet")
