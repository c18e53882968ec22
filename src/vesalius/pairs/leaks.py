"""What would make an evaluation lie: one patient or one picture on two sides of a split."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vesalius.core.labels import findings_of, join_findings
from vesalius.images.duplicates import Duplicate, clusters

Severity = Literal["error", "warning"]

_SURE = ("group", "bytes", "pixels")  # near-duplicates are judged by a person
_SAID = {
    "bytes": "the same file",
    "pixels": "the same pixels",
    "near": "nearly the same picture",
    "turned": "nearly the same picture, mirrored or rotated",
    "embedding": "nearly the same features",
}


@dataclass(frozen=True, slots=True)
class Leak:
    """Rows that should not stand as they do, and why, in words for the user."""

    kind: str  # group, bytes, pixels, near, turned, embedding: across splits; labels: anywhere
    severity: Severity
    rows: tuple[int, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Groups that duplicates have united into one that is too large to split around."""

    group: str
    groups: int  # how many have been united
    rows: int
    share: float  # of all rows


def find_leaks(
    keys: Sequence[str],
    labels: Sequence[str | None],
    groups: Sequence[str],
    splits: Sequence[str],
    duplicates: Sequence[Duplicate],
) -> list[Leak]:
    """Groups and duplicates on two sides of a split, and pictures under two labels.

    Rows of the split `unused` are on no side.
    `keys` name the rows in the messages. A label of several classes, "a|b", is the same in any
    order; a row without a label contradicts none. Errors come first, then warnings.
    """
    leaks = [*_cut_groups(groups, splits), *_two_labels(keys, labels, duplicates)]
    for pair in duplicates:
        sides = splits[pair.a], splits[pair.b]
        if sides[0] != sides[1] and "unused" not in sides:
            named = f"{keys[pair.a]} ({sides[0]}) and {keys[pair.b]} ({sides[1]})"
            kind = _kind(pair)
            leaks.append(_leak(kind, (pair.a, pair.b), f"{_SAID[kind]}: {named}"))
    return sorted(leaks, key=lambda leak: (leak.severity, leak.kind, leak.rows))


def safe_groups(groups: Sequence[str], duplicates: Iterable[Duplicate]) -> list[str]:
    """The groups, those that share a picture united under the smallest of their names.

    Splits that are drawn on them cut through no group and no set of copies.
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for pair in duplicates:
        first, second = sorted((root(groups[pair.a]), root(groups[pair.b])))
        parent[second] = first
    return [root(group) for group in groups]


def longest_chain(groups: Sequence[str], united: Sequence[str], most: float = 0.05) -> Chain | None:
    """The largest of the united groups, where it holds more than `most` of all rows.

    `united` is what `safe_groups` made of `groups`. A long chain is a sign that images which only
    look alike were taken for copies, and leaves little choice of splits. Groups that were that
    large by themselves are not meant.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for group, name in zip(groups, united, strict=True):
        members[name].add(group)
    rows = Counter(name for name in united if len(members[name]) > 1)
    if not rows:
        return None
    name, count = min(rows.items(), key=lambda item: (-item[1], item[0]))
    share = count / len(united)
    return Chain(name, len(members[name]), count, share) if share > most else None


def _cut_groups(groups: Sequence[str], splits: Sequence[str]) -> list[Leak]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        if splits[row] != "unused":
            rows[group].append(row)
    leaks = []
    for group, members in rows.items():
        sides = Counter(splits[row] for row in members)
        if len(sides) > 1:
            counts = ", ".join(f"{count} in {split}" for split, count in sorted(sides.items()))
            leaks.append(_leak("group", tuple(members), f"the group {group}: {counts}"))
    return leaks


def _two_labels(
    keys: Sequence[str], labels: Sequence[str | None], duplicates: Sequence[Duplicate]
) -> list[Leak]:
    copies: dict[int, list[int]] = defaultdict(list)
    for row, cluster in enumerate(clusters(len(keys), duplicates).tolist()):
        if cluster >= 0 and labels[row] is not None:
            copies[cluster].append(row)
    leaks = []
    for rows in copies.values():
        first = {join_findings(findings_of(labels[row])): row for row in reversed(rows)}
        if len(first) > 1:
            named = " and ".join(f"{keys[row]} ({label})" for label, row in sorted(first.items()))
            leaks.append(_leak("labels", tuple(rows), f"one picture under two labels: {named}"))
    return leaks


def _kind(pair: Duplicate) -> str:
    return "turned" if pair.turned else pair.kind


def _leak(kind: str, rows: tuple[int, ...], message: str) -> Leak:
    return Leak(kind, "error" if kind in _SURE else "warning", rows, message)
