"""Splits that no patient, lesion or duplicate crosses."""

import hashlib
from collections.abc import Sequence


def hold_out(groups: Sequence[str], fraction: float, seed: int = 0) -> list[bool]:
    """Mark at least `fraction` of the rows as held out, whole groups at a time.

    Groups are taken in the order of a hash of their name until the fraction is reached, so that
    adding rows moves few groups and the choice is the same on every machine.
    """
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    held: set[str] = set()
    rows = 0
    for group in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()):
        if rows >= fraction * len(groups):
            break
        held.add(group)
        rows += sizes[group]
    return [group in held for group in groups]
