"""Numbers and figures as pages, warnings and notes write them."""

import math
from collections.abc import Mapping
from typing import Any

Figure = Mapping[str, Any]  # as a row of metrics.json


def thousands(value: float) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def decimals(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three decimals and a sign; a rounded zero has none."""
    if value is None:
        return "–"
    return f"{abs(value):.3f}" if round(value, 3) == 0 else f"{value:+.3f}"


def p_value(p: float | None) -> str:
    """A p value, never 0."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def short(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.1f} M" if abs(value) < 1e9 else f"{value / 1e9:,.2f} G"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    if digits > 5:
        return f"{value:.1e}".replace("-", "−")
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """A share that is never rounded to nothing, nor nearly all to all."""
    if 0 < share < 0.01:
        return "under 1 %"
    return "over 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def sentence(text: str) -> str:
    """With a capital letter and one full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def tail(key: str, most: int = 14) -> str:
    """The end of a long key: the names of files differ there."""
    return key if len(key) <= most else "…" + key[1 - most :]


def spoken(figure: Figure, *, context: bool = True) -> str:
    """A figure with its interval and p, with `context` its number and floor too."""
    if figure["value"] is None:
        return figure["why"]
    text = _with_interval(figure["value"], figure["low"], figure["high"]) + _p(figure)
    if not context:
        return text
    text += f", n = {figure['n']}"
    if figure["floor"] is not None:
        text += f"; real against real {short(figure['floor'])} at n = {figure['floor_n']}"
        if figure["at_floor_n"] not in (None, figure["value"]):
            text += f", where the set has {short(figure['at_floor_n'])}"
    return text


def counted(figure: Figure) -> str:
    """A share as a count and in percent."""
    text = f"{round(figure['value'] * figure['n'])} of {figure['n']:,}"
    shares = [f"{100 * each:.1f}" for each in (figure["value"], figure["low"], figure["high"])]
    return f"{text}, {shares[0]} % ({shares[1]} to {shares[2]})" + _p(figure)


def _p(figure: Figure) -> str:
    p = figure.get("details", {}).get("p")
    return "" if p is None else f", p\u00a0=\u00a0{p:.3f}"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    """All three with the decimals of the largest: 0.0102 to 0.2 is 0.01 to 0.20."""
    if low is None or high is None:
        return short(value)
    largest = max(abs(value), abs(low), abs(high))
    if largest >= 1e6 or largest == 0:
        return f"{short(value)} ({short(low)} to {short(high)})"
    digits = min(6, max(0, 2 - math.floor(math.log10(largest))))
    texts = [f"{each:,.{digits}f}".replace("-", "−") for each in (value, low, high)]
    return f"{texts[0]} ({texts[1]} to {texts[2]})"
