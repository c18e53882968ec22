"""Ctrl-C and SIGTERM, also where a library takes them for a damaged file.

An interruption that reaches C or Rust in the middle of a call comes out of some libraries as an error of
their own ("could not determine the shape of object type"), with nothing left of what it was.
"""

import signal
from typing import Any, NoReturn

_asked = False


def listen() -> None:
    """From now on SIGTERM stops this process as Ctrl-C does, and `raise_if_asked` knows of both.

    Where SIGINT is ignored, as in a background job of a shell, it stays so.
    """
    global _asked
    _asked = False
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def was_asked() -> bool:
    """Whether this process was told to stop since `listen`."""
    return _asked


def raise_if_asked(error: BaseException) -> None:
    """Raise KeyboardInterrupt if `error` comes of being told to stop: first thing where any error is damage."""
    if _asked or isinstance(error.__context__, KeyboardInterrupt):
        raise KeyboardInterrupt from error


def _interrupt(number: int, frame: Any) -> NoReturn:
    global _asked
    _asked = True
    raise KeyboardInterrupt
