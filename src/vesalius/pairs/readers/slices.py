"""Which slices of a volume, series or multi-frame file become images."""

import re

from vesalius.errors import VesaliusError

_WHOLE = re.compile(r"[0-9]{1,9}")
_FRACTION = re.compile(r"[0-9]{0,9}\.[0-9]{1,9}|[0-9]{1,9}\.?")


def choose(spec: str, count: int) -> list[int]:
    """The indices, counted from 0 and in order, that `spec` takes of `count` slices.

    `all`; `middle`, the central one; `middle:N`, the N central ones; `every:N`, the first and
    every N-th after it; `FROM..TO`, from one index to another with both included (`5..12`), or,
    where one of the two has a decimal point, the slices whose centre lies between two fractions of
    the way through (`0.3..0.7`). A range may take none. Raises VesaliusError for anything else.
    """
    name, colon, number = spec.partition(":")
    low, dots, high = spec.partition("..")
    if spec == "all":
        return list(range(count))
    if name == "middle" and (not colon or _positive(number)):
        size = min(int(number) if colon else 1, count)
        first = (count - size) // 2
        return list(range(first, first + size))
    if name == "every" and _positive(number):
        return list(range(0, count, int(number)))
    if dots and _WHOLE.fullmatch(low) and _WHOLE.fullmatch(high) and int(low) <= int(high):
        return list(range(int(low), min(int(high) + 1, count)))
    if dots and _FRACTION.fullmatch(low) and _FRACTION.fullmatch(high):
        start, stop = float(low), float(high)
        if start < stop <= 1:
            return [index for index in range(count) if start <= (index + 0.5) / count <= stop]
    raise VesaliusError(
        f"slices {spec!r} should be all, middle, middle:N, every:N, or FROM..TO as in 5..12 "
        "(indices from 0) or 0.3..0.7 (fractions)"
    )


def _positive(number: str) -> bool:
    return bool(_WHOLE.fullmatch(number)) and int(number) > 0
