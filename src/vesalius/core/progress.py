"""How a stage says how far it is: it calls back, and whoever called it draws the bar."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Count = Callable[[float, int | None], None]  # done, of how many
Progress = Callable[[str], AbstractContextManager[Count]]


def no_progress(_what: str) -> AbstractContextManager[Count]:
    """Says nothing."""
    return nullcontext(lambda done, total: None)
