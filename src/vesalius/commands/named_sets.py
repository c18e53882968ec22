"""Synthetic sets as the command line names them."""

from pathlib import Path

from vesalius.errors import VesaliusError


def named_sets(texts: list[str]) -> dict[str, Path]:
    """NAME=PATH, or PATH whose last part is the name."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = Path(text).absolute().stem, text
        if not name or not path:
            raise VesaliusError(f"--synthetic {text!r} is neither SET nor NAME=SET")
        if name in found:
            raise VesaliusError(f"two synthetic sets are called {name!r}: name them, NAME=SET")
        found[name] = Path(path)
    return found
