"""One thing loaded at a time, for the many images that come from it."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Latest(Generic[Key, Value]):
    """Calls `load(key)` once for a run of equal keys and keeps only the last result, or its error.

    A volume's slices are asked for one after the other, by several threads: each volume is read
    once, and the one before it is let go first, so that memory holds one.
    """

    def __init__(self, load: Callable[[Key], Value]) -> None:
        self._load = load
        self._lock = Lock()
        self._held: tuple[Key, Value | None, Exception | None] | None = None

    def get(self, key: Key) -> Value:
        """What `load(key)` gives; raises what it raised."""
        with self._lock:
            if self._held is None or self._held[0] != key:
                self._held = None
                self._held = self._loaded(key)
            _, value, error = self._held
        if error is not None:
            raise error
        return value  # pyright: ignore[reportReturnType]  # None only beside an error

    def _loaded(self, key: Key) -> tuple[Key, Value | None, Exception | None]:
        try:
            return key, self._load(key), None
        except Exception as error:
            return key, None, error
