"""Loading: without the pauses of Python's garbage collector, and with a word where it takes long."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

QUIET_SECONDS = 1.0  # what takes no longer is not worth a word


@contextmanager
def no_collecting() -> Iterator[None]:
    """Collect no garbage for a while.

    Modules and networks that are being loaded stay, and a collector that looks through all of them,
    over and over, takes a third of the time that torch, transformers and diffusers need.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def told(what: str, on_message: Callable[[str], object]) -> Iterator[Callable[[], None]]:
    """`on_message` gets `WHAT ...` after a second, unless the function that this gives is called first."""
    word = Timer(QUIET_SECONDS, on_message, [f"{what} ..."])
    word.daemon = True
    word.start()
    try:
        yield word.cancel
    finally:
        word.cancel()


@contextmanager
def loading(what: str, on_message: Callable[[str], object]) -> Iterator[None]:
    """Load without collecting garbage; `on_message` gets `loading WHAT ...` after a second of it."""
    with told(f"loading {what}", on_message), no_collecting():
        yield
