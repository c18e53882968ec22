"""Labels, which may name several findings: `edema|effusion`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

SEPARATOR = "|"


def split_label(label: str | None) -> list[str]:
    """The findings in a label, in their order; none for an empty label."""
    return [part.strip() for part in (label or "").split(SEPARATOR) if part.strip()]


def findings_of(label: str | None) -> frozenset[str]:
    """The findings in a label, whatever their order."""
    return frozenset(split_label(label))


def join_findings(findings: Iterable[str]) -> str:
    """One label for these findings, the same whatever their order."""
    return SEPARATOR.join(sorted(findings))


def labels_by_caption(captions: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """The label of each caption whose images all have the same one."""
    found: dict[str, set[str]] = defaultdict(set)
    for caption, label in zip(captions, labels, strict=True):
        found[caption].add(label)
    return {caption: min(each) for caption, each in found.items() if caption and len(each) == 1}


@lru_cache(4096)
def plain_name(name: str) -> str:
    """A column's name without case, spaces, hyphens and underscores, by which names are compared."""
    return re.sub(r"[ _-]", "", name.lower())


def slug(label: str) -> str:
    """A label as a folder's or a token's name."""
    return re.sub(r"[^\w.-]+", "-", label.strip().lower()).strip("-.") or "unnamed"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
