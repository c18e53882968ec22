"""P values corrected for their number."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Correction = Literal["holm", "bh"]


def corrected(p: Sequence[float | None], method: Correction = "holm") -> list[float | None]:
    """P values corrected for their number; None is no test and stays.

    `holm` bounds the chance of a single false finding (Holm 1979), `bh` the share of false ones among
    the findings (Benjamini and Hochberg 1995).
    """
    tested = [k for k, value in enumerate(p) if value is not None]
    values = np.array([p[k] for k in tested], float)
    order, ranks = np.argsort(values, kind="stable"), np.arange(len(tested))
    if method == "holm":
        grown = np.maximum.accumulate(values[order] * (len(tested) - ranks))
    else:
        grown = np.minimum.accumulate((values[order] * len(tested) / (ranks + 1))[::-1])[::-1]
    made = list(p)
    for place, value in zip(order, np.minimum(grown, 1).tolist(), strict=True):
        made[tested[place]] = value
    return made
