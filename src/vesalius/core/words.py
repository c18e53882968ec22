"""Numbers, times and names in messages."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# Control characters, those that turn the direction of what follows, and halves of pairs.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """`text` in which characters that would hide or reorder what a page shows are written out."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 caption`, `1,200 captions`; `many` where the plural takes more than an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """As in `3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def about(seconds: float) -> str:
    """A time that is estimated: `40 s`, `3.5 min`, `5.2 h`, `3 days`."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.95 * unit or (seconds >= 0.95 * unit and name != "days"):
            value = seconds / unit
            text = f"{value:.1f}".removesuffix(".0") if value < 9.95 else f"{value:.0f}"
            return f"{text} {name}"
    return f"{max(1, seconds):.0f} s"


def about_on(seconds: float, device: str) -> str:
    """As in `about 3 days on cpu`; a CPU that would take more than a month is told so."""
    text = f"about {about(seconds)} on {device}"
    return f"{text} (meant for a GPU)" if device == "cpu" and seconds > 30 * 86400 else text


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like `name`, whatever their case; None where none is like it."""
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), by_lower, 1, cutoff)
    return by_lower[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`: did you mean NAME?` at the end of a message, or nothing."""
    near = nearest(name, known, cutoff)
    return f": did you mean {near}?" if near else ""
