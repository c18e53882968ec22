"""Which row goes to which split: the source's own words where it has them, else drawn by group."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa

from vesalius.errors import VesaliusError
from vesalius.pairs import splits
from vesalius.pairs.compose import Draft

USUAL = {"val": 0.1}
_FAR = 0.05  # of all rows
_NAMES = ("train", "val", "test", "unused")


def divide(
    draft: Draft, spec: str, *, stratify: bool, seed: int, test: Collection[str] = ()
) -> Draft:
    """Set `split` of every row, source by source; groups stay whole.

    The groups that hold a row whose sha1 or key is in `test` go to the split test whatever the
    rest says, and count for its fraction.

    `spec` is `auto` (the source's own split; where it has none, or none to validate on, a tenth of
    the training groups becomes `val`), `own` (nothing is drawn), `none` (all train), or fractions
    as in `val=0.1,test=0.2`, which replace what the source says.
    """
    fractions = USUAL if spec in ("auto", "own") else splits.parse_split(spec)
    groups, labels = draft.column("group"), draft.column("label")
    names = [_own(name) for name in draft.column("split")]
    known = set(test)
    marks = zip(groups, draft.column("sha1"), draft.column("key"), strict=True)
    fixed = {group: "test" for group, *mark in marks if not known.isdisjoint(mark)}
    names = ["test" if group in fixed else name for group, name in zip(groups, names, strict=True)]
    if spec == "own":
        chosen = [name or "train" for name in names]
        return draft.with_column("split", chosen, pa.string())
    for rows in draft.by_source().values():
        if spec == "auto":
            if {"val", "unused"} & {names[i] for i in rows}:
                fresh = [i for i in rows if names[i] is None]
            else:
                fresh = [i for i in rows if names[i] in (None, "train")]
        else:
            fresh = rows
        drawn = splits.assign(
            [groups[i] for i in fresh],
            [labels[i] for i in fresh],
            fractions,
            seed=seed,
            stratify=stratify,
            fixed={group: fixed[group] for i in fresh if (group := groups[i]) in fixed},
        )
        for i, name in zip(fresh, drawn, strict=True):
            names[i] = name
    return draft.with_column("split", names, pa.string())


def far_from_asked(draft: Draft, spec: str) -> str | None:
    """One sentence where a part that was drawn is over 5 points larger or smaller than asked."""
    if spec in ("auto", "own", "none"):
        return None
    asked = splits.parse_split(spec)
    asked = {"train": 1 - sum(asked.values())} | asked
    names, groups = draft.column("split"), draft.column("group")
    drawn = {name: names.count(name) / len(names) for name in asked}
    far = [name for name in asked if abs(drawn[name] - asked[name]) > _FAR]
    if not far:
        return None
    wanted, got = (
        ", ".join(f"{100 * share[name]:.0f} % {name}" for name in far) for share in (asked, drawn)
    )
    why = "whole patients" if len(set(groups)) < len(groups) else "each label is drawn on its own"
    return f"asked {wanted}, drew {got}: {why}{' stay together' * (why == 'whole patients')}"


def without_unknown_splits(draft: Draft, spec: str) -> Draft:
    """Skip the rows whose own split, where it counts, is none that we know."""
    if spec not in ("auto", "own"):
        return draft
    reason = "split {!r} is none of train, val and test"
    names = enumerate(draft.column("split"))
    return draft.without({i: reason.format(n) for i, n in names if n and _own(n) is None})


def thin(draft: Draft, *, shots: int, fraction: float, seed: int) -> Draft:
    """Leave `shots` rows a label, or a fraction of the groups, of each source in train.

    The rest becomes `unused`.
    """
    names = draft.column("split")
    for rows in draft.by_source().values():
        train = [i for i in rows if names[i] == "train"]
        if not train:
            continue
        groups, labels = _some(draft, train)
        kept = splits.fraction_of(groups, labels, fraction, seed) if fraction < 1 else None
        few = splits.few_shots(groups, labels, shots, seed) if shots else None
        for place, i in enumerate(train):
            if (kept and not kept[place]) or (few and not few[place]):
                names[i] = "unused"
    return draft.with_column("split", names, pa.string())


def fold(draft: Draft, k: int, seed: int) -> Draft:
    """Add the column `fold`, 0 to k - 1, to all rows but those of `test` and `unused`."""
    names = draft.column("split")
    rows = [i for i, name in enumerate(names) if name in ("train", "val")]
    groups, labels = _some(draft, rows)
    numbers: list[int | None] = [None] * len(names)
    for i, number in zip(rows, splits.folds(groups, labels, k, seed), strict=True):
        numbers[i] = number
    return draft.with_column("fold", numbers, pa.int64())


def _some(draft: Draft, rows: list[int]) -> list[list[Any]]:
    """Groups and labels of some rows."""
    columns = draft.column("group"), draft.column("label")
    return [[column[i] for i in rows] for column in columns]


def _own(name: str | None) -> str | None:
    if not name:
        return None
    return name if name in _NAMES else splits.normalise_split(name)


def read_marks(path: Path | str) -> tuple[str, ...]:
    """The rows that a file names, one sha1 or key a line; empty lines and `#` remarks do not count.

    Raises VesaliusError where the file cannot be read, or names nothing.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VesaliusError(f"--test-rows {path} cannot be read: {error}") from error
    marks = {line.strip() for line in lines if line.strip() and line[0] != "#"}
    if not marks:
        raise VesaliusError(f"--test-rows {path} names no row: write one sha1 or key a line")
    return tuple(sorted(marks))
