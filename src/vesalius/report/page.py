"""The one way from a template to a page: everything escaped, nothing undefined, shared macros."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,  # labels, captions and file names are whatever somebody wrote
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    )
    environment.filters["n"] = thousands
    environment.filters["number"] = decimals
    environment.filters["signed"] = signed
    environment.filters["chance"] = p_value
    return environment


def template(name: str, filters: Mapping[str, Callable[..., Any]] | None = None) -> jinja2.Template:
    """The template `NAME.html.j2`, with filters of its own beside the shared ones."""
    environment = _environment()
    if filters:
        environment = environment.overlay()
        environment.filters = environment.filters | dict(filters)
    return environment.get_template(f"{name}.html.j2")


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
