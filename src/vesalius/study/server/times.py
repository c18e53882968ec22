"""When an answer was given. A browser's clock may jump, so only durations are taken from it."""

import math
from dataclasses import dataclass

LONGEST_TRIAL_MS = 24 * 3600 * 1000
LONGEST_WAIT_MS = 14 * LONGEST_TRIAL_MS  # of an answer, for the connection
TOLERANCE_MS = 1000


@dataclass(frozen=True)
class Durations:
    """What a browser measured, in milliseconds.

    `elapsed_ms` is from the image to the answer, `visible_ms` the part of it in which the page was to
    be seen, `waited_ms` how long the answer waited to be sent.
    """

    elapsed_ms: float | None
    visible_ms: float | None
    waited_ms: float | None


@dataclass(frozen=True)
class Times:
    """Seconds since 1970 by this machine's clock; None for what made no sense, with the reasons."""

    shown_at: float | None
    submitted_at: float | None
    visible_ms: int | None
    waited_ms: int | None
    flaws: tuple[str, ...]


def settle(received_at: float, measured: Durations) -> Times:
    """Times of an answer that arrived at `received_at`, counted back by what the browser measured."""
    flaws: list[str] = []

    def sane(name: str, most: float) -> float | None:
        value = getattr(measured, name)
        if value is None or not math.isfinite(value) or not 0 <= value <= most:
            flaws.append(f"{name} {value}")
            return None
        return value

    waited = sane("waited_ms", LONGEST_WAIT_MS)
    elapsed = sane("elapsed_ms", LONGEST_TRIAL_MS)
    visible = sane("visible_ms", LONGEST_TRIAL_MS)
    if visible is not None and elapsed is not None and visible > elapsed + TOLERANCE_MS:
        flaws.append(f"visible_ms {visible:.0f} of elapsed_ms {elapsed:.0f}")
        visible = None
    submitted = None if waited is None else received_at - waited / 1000
    shown = None if submitted is None or elapsed is None else submitted - elapsed / 1000
    return Times(
        shown_at=shown,
        submitted_at=submitted,
        visible_ms=None if visible is None else round(visible),
        waited_ms=None if waited is None else round(waited),
        flaws=tuple(flaws),
    )
