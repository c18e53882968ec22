"""Versions of Python and of libraries, for the records that stages leave behind."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Of Python, and of those libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
