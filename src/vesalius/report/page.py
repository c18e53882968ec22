"""The one way from a template to a page: everything escaped, nothing undefined, one look."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from vesalius.core.words import duration, visible
from vesalius.report import plots, words

STATUSES = {  # of a remark, the most urgent first: its tone and title
    "error": ("bad", "Error"),
    "unproven": ("bad", "Not proven"),
    "unfair": ("bad", "Unfair"),
    "unknown": ("care", "Not known"),
    "warning": ("care", "Warning"),
    "stated": ("care", "Stated"),
    "note": ("calm", "Note"),
    "holds": ("good", "Holds"),
}


@dataclass(frozen=True)
class Remark:
    """One line that a reader must know; `status` is one of STATUSES."""

    status: str
    message: str
    of: str = ""  # which set it is about

    @property
    def tone(self) -> str:
        """The class of its colour in the style sheet."""
        return STATUSES[self.status][0]

    @property
    def title(self) -> str:
        """What stands before the message."""
        return STATUSES[self.status][1]


def urgent_first(remarks: Iterable[Remark]) -> list[Remark]:
    """Each remark once, by status; otherwise in their order."""
    order = list(STATUSES)
    return sorted(dict.fromkeys(remarks), key=lambda remark: order.index(remark.status))


def render(name: str, **content: Any) -> str:
    """The page of the template `NAME.html.j2`."""
    return _environment().get_template(f"{name}.html.j2").render(content)


def _shown(value: Any) -> Any:
    return (
        visible(value) if type(value) is str else value
    )  # of a template's own text nothing changes


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,  # labels, captions and file names are whatever somebody wrote
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    )
    environment.filters |= {
        "n": words.thousands,
        "number": words.decimals,
        "signed": words.signed,
        "chance": words.p_value,
        "short": words.short,
        "percent": words.percent,
        "sentence": words.sentence,
        "duration": duration,
        "tail": words.tail,
        "spoken": words.spoken,
        "tone": plots.tone,
        "bars": plots.bars,
        "stack": plots.stack,
        "roc": plots.roc_points,
    }
    return environment
