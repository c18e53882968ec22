"""Is a figure the same as another, or no worse, within a margin that was fixed before?

That a difference is not significant does not show that there is none. Two one-sided tests do (TOST:
Schuirmann 1987): a figure is equivalent to `null` where its 90 % interval lies wholly between
null - margin and null + margin, at a level of 5 %. It is not inferior where the lower end of that
interval is above null - margin. The interval is the cautious one of `Estimate.cautious`: the plain one
shows sameness in more than 5 % of studies where readers happen to be alike.
"""

import math
from dataclasses import dataclass
from typing import Literal

from vesalius.errors import VesaliusError
from vesalius.statistics.readers import Estimate, Scope

ALPHA = 0.05  # the chance that a figure at the margin passes


@dataclass(frozen=True)
class MarginTest:
    """Whether a figure's 90 % interval lies on the right side of its margin."""

    kind: Literal["equivalence", "non-inferiority"]
    value: float
    low: float  # of the 90 % interval
    high: float
    null: float
    margin: float
    p: float  # NaN where nothing varies
    shown: bool
    scope: Scope

    def __repr__(self) -> str:
        within = f"{self.null:g} ± {self.margin:g}"
        bound = within if self.kind == "equivalence" else f"above {self.null - self.margin:g}"
        said = "shown" if self.shown else "not shown"
        return (
            f"{self.kind} {said} ({bound}): {self.value:.3f}, 90 % interval {self.low:.3f} to "
            f"{self.high:.3f}, {self.scope}"
        )


def equivalence(figure: Estimate, null: float, margin: float) -> MarginTest:
    """Is `figure` within `margin` of `null`? Two one-sided tests of 5 % each."""
    figure = _cautious(figure, margin)
    low, high = figure.interval(1 - 2 * ALPHA)
    p = max(figure.p_above(null - margin), 1 - figure.p_above(null + margin))
    shown = null - margin < low and high < null + margin
    return MarginTest("equivalence", figure.value, low, high, null, margin, p, shown, figure.scope)


def non_inferiority(figure: Estimate, margin: float, null: float = 0.0) -> MarginTest:
    """Is `figure`, where more is better, above `null` less `margin`? One one-sided test of 5 %."""
    figure = _cautious(figure, margin)
    low, high = figure.interval(1 - 2 * ALPHA)
    p = figure.p_above(null - margin)
    shown = low > null - margin
    return MarginTest(
        "non-inferiority", figure.value, low, high, null, margin, p, shown, figure.scope
    )


def _cautious(figure: Estimate, margin: float) -> Estimate:
    if not (margin > 0 and math.isfinite(margin)):
        raise VesaliusError(f"a margin is above 0, not {margin}")
    return figure.cautious()
