"""Prompts made of several: `A AND B:0.5`, the notation of web UIs and of Textual Inversion's paper."""

import math
import re
from dataclasses import dataclass

from vesalius.errors import VesaliusError

_AND = re.compile(r"\s+AND\s+")
_WEIGHT = re.compile(r"\s*:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*(%?)\s*$")
MOST_PARTS = 8
LARGEST_WEIGHT = 10.0


@dataclass(frozen=True)
class Part:
    """One prompt of a composition, and how much of the guidance is its own."""

    text: str
    weight: float = 1.0


def parse_prompt(prompt: str) -> tuple[Part, ...]:
    """The parts of a prompt: `"healthy:30% AND diseased:0.7"` has two.

    A part without a weight has weight 1; a negative one is moved away from. A prompt without AND
    is one part, whatever it ends in: `ratio 1:2` is text.
    Raises VesaliusError for an empty part, too many of them, or a weight beyond 10.
    """
    texts = _AND.split(f" {prompt} ".replace("\n", " "))
    if len(texts) == 1:
        return (Part(prompt.strip()),)
    if len(texts) > MOST_PARTS:
        raise VesaliusError(f"{prompt!r} has {len(texts)} parts: {MOST_PARTS} are the most")
    parts = tuple(_part(text.strip()) for text in texts)
    if not all(part.text for part in parts):
        raise VesaliusError(f"a part of {prompt!r} is empty: write A AND B, or A:0.3 AND B:0.7")
    if not all(math.isfinite(p.weight) and abs(p.weight) <= LARGEST_WEIGHT for p in parts):
        raise VesaliusError(f"a weight of {prompt!r} is beyond {LARGEST_WEIGHT:g}")
    return parts


def _part(text: str) -> Part:
    found = _WEIGHT.search(text)
    if not found:
        return Part(text)
    weight = float(found[1]) / (100 if found[2] else 1)
    return Part(text[: found.start()].strip(), weight)


def blend(first: str, second: str, share: float) -> str:
    """The prompt `share` of the way from `first` to `second`: their weights add up to 1."""
    return f"{first}:{1 - share:.4g} AND {second}:{share:.4g}"
