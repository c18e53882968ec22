"""Packages that only some formats need."""

import importlib
from typing import Any

from vesalius.errors import VesaliusError


def need(module: str, extra: str, what: str = "this format") -> Any:
    """The imported `module`; VesaliusError with the command that installs it where it is missing.

    `extra` is the name of the package's extra that holds it, and `what` what cannot do without it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise VesaliusError(
            f"{what} needs {package}, which is not installed: pip install 'vesalius[{extra}]'"
        ) from error
