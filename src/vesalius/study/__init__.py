"""The blinded reader study: `vesalius.study.build(...)`, `.check(...)`, `.lock(...)` and what follows.

Each step is the function of its name in the module of its name; each such module calls `callable_as`, so that both
are one name, as with the packages of other stages.
"""

from importlib import import_module
from typing import Any

STEPS = ("build", "check", "power", "lock", "export", "analyse")


def __getattr__(name: str) -> Any:
    """Import a step on first use (PEP 562)."""
    if name not in STEPS:
        raise AttributeError(f"module 'vesalius.study' has no attribute {name!r}")
    return import_module(f"vesalius.study.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *STEPS})
