"""Splits that no patient, lesion or duplicate crosses.

Groups are always taken in the order of a hash of their name and the seed: the choice is the same on
every machine, does not depend on the order of rows, and moves little when rows are added. A label
may name several classes, as in "edema|effusion"; None is no label.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from vesalius.core.labels import findings_of
from vesalius.errors import VesaliusError

Labels = Sequence[str | None]

_SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "holdout"),
}


def names_patient(
    sources: Sequence[str], groups: Sequence[str | None], sha1s: Sequence[str]
) -> list[bool]:
    """Of each row whether its group is a patient or lesion, rather than the image itself.

    A row of which no patient is known has the group `SOURCE/SHA1` of its image, or of a near-duplicate.
    """
    own = {f"{source}/{sha1}" for source, sha1 in zip(sources, sha1s, strict=True)}
    return [bool(group) and group not in own for group in groups]


def normalise_split(name: str) -> str | None:
    """train, val or test for the usual spellings of a split's name; None for anything else."""
    name = name.strip().lower()
    return next((split for split, names in _SPELLINGS.items() if name in names), None)


def take_split(folders: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The first of a path's folders that is called like a split, and the other folders."""
    place = next((k for k, name in enumerate(folders) if normalise_split(name)), None)
    if place is None:
        return None, tuple(folders)
    return folders[place], (*folders[:place], *folders[place + 1 :])


def folders_are_splits(paths: Iterable[Sequence[str]]) -> bool:
    """Whether each of these paths lies below a folder called like a split; one without folders does not count.

    Else a folder called `test` may as well be a class beside other classes.
    """
    found = [take_split(folders)[0] is not None for folders in paths if folders]
    return bool(found) and all(found)


def parse_split(spec: str) -> dict[str, float]:
    """`val=0.1,test=0.2` as fractions by split, `none` as no fractions.

    Raises VesaliusError when it is written in another way or leaves nothing for training.
    """
    if spec.strip().lower() == "none":
        return {}
    fractions: dict[str, float] = {}
    for part in spec.split(","):
        name, _, text = part.partition("=")
        split = normalise_split(name)
        try:
            fraction = float(text)
        except ValueError:
            split, fraction = None, 0.0
        if split is None or split == "train" or split in fractions:
            raise VesaliusError(
                f"split {spec!r} should be none, or val and test with their fractions once each, "
                "as in val=0.1,test=0.2: training gets the rest"
            )
        fractions[split] = fraction
    _check(fractions)
    return fractions


def _check(fractions: dict[str, float]) -> None:
    text = ", ".join(f"{name}={fraction:g}" for name, fraction in fractions.items())
    if "train" in fractions:
        raise VesaliusError(f"split {text}: leave train out, it gets what the others leave")
    # written so that NaN, which compares false to all, fails too
    if not all(fraction > 0 for fraction in fractions.values()):
        raise VesaliusError(f"split {text}: fractions should be above 0")
    if not sum(fractions.values()) < 1:
        raise VesaliusError(f"split {text}: the fractions should add up to less than 1")


def assign(
    groups: Sequence[str],
    labels: Labels,
    fractions: dict[str, float],
    seed: int = 0,
    stratify: bool = True,
    fixed: Mapping[str, str] | None = None,
) -> list[str]:
    """The split of each row: at least each of `fractions` of the rows, "train" for what is left.

    Groups stay whole. Those in `fixed` have their split already, and count for its fraction. With
    `stratify` each class is split on its own, a group counting for the rarest class it holds: a
    class with as many groups as splits has rows in all of them, and one with fewer stays in training
    first; a group far too large for a split is left to training where a smaller one will do.
    Without, groups are taken in the order of a hash of their name.

    Rows that are added move other groups of their class only, fewer rows of them at each boundary
    between two splits than were added, give or take a group.

    Raises VesaliusError for fractions that are not above 0 or leave nothing for training.
    """
    _check(fractions)
    sizes = Counter(groups)
    strata = _strata(groups, labels) if stratify else {None: list(sizes)}
    split: dict[str, str] = dict(fixed or {})
    for members in strata.values():
        total = sum(sizes[group] for group in members)
        left = [group for group in _in_order(members, seed)[::-1] if group not in split]
        for number, (name, fraction) in enumerate(fractions.items()):
            spared = len(fractions) - number if stratify else 0  # a group for each split to come
            rows = sum(sizes[group] for group in members if split.get(group) == name)
            while len(left) > spared and rows < fraction * total:
                place = _next(left, sizes, fraction * total - rows) if stratify else -1
                group = left.pop(place)  # near the end, so that few move up
                split[group] = name
                rows += sizes[group]
    return [split.get(group, "train") for group in groups]


def _next(left: list[str], sizes: Mapping[str, int], wanted: float) -> int:
    """Where the last of `left` is, but for one so large that a split would get twice the rows it wants."""
    backwards = range(len(left) - 1, -1, -1)
    fits = (place for place in backwards if sizes[left[place]] <= 2 * wanted)
    found = next(fits, None)
    return min(backwards, key=lambda place: sizes[left[place]]) if found is None else found


def folds(groups: Sequence[str], labels: Labels, k: int, seed: int = 0) -> list[int]:
    """The fold of each row, 0..k-1: whole groups, each class and all rows spread evenly.

    Raises VesaliusError when `k` is below 2, or when there are fewer groups than folds in all or in
    a class, which would be missing from a fold.
    """
    if k < 2:
        raise VesaliusError(f"{k} folds: take 2 or more")
    holders = _holders(groups, labels)
    small = {f"class {name!r}": len(held) for name, held in holders.items() if len(held) < k}
    if len(set(groups)) < k:
        small = {"the whole set": len(set(groups))}
    for name, count in small.items():
        raise VesaliusError(f"{name} has {count} groups, too few for {k} folds: take fewer folds")
    sizes = Counter(groups)
    fold: dict[str, int] = {}
    rows = [0] * k
    for members in _strata(groups, labels).values():
        here = [0] * k
        # the largest first, while the smaller ones that follow can still make up for them
        for group in sorted(_in_order(members, seed), key=lambda group: -sizes[group]):
            chosen = min(range(k), key=lambda i: (here[i], rows[i]))
            fold[group] = chosen
            here[chosen] += sizes[group]
            rows[chosen] += sizes[group]
    return [fold[group] for group in groups]


def few_shots(groups: Sequence[str], labels: Labels, k: int, seed: int = 0) -> list[bool]:
    """Mark `k` rows of each class, or all where there are fewer, from as few groups as that takes.

    The rows for a smaller `k` are among those for a larger one. A row of several classes is taken
    when one of them needs it, so that the others may get more than `k`.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    taken: Counter[str] = Counter()
    chosen = [False] * len(groups)
    for group in _in_order(rows, seed):
        for row in rows[group]:
            classes = _classes(labels[row])
            chosen[row] = any(taken[name] < k for name in classes)
            taken.update(classes)  # also for a row that is left out: or sets would not be nested
    return chosen


def fraction_of(
    groups: Sequence[str], labels: Labels, fraction: float, seed: int = 0
) -> list[bool]:
    """Mark at least `fraction` of the rows of each class, whole groups, at least one a class.

    The rows of a smaller fraction are among those of a larger one. Raises VesaliusError for a
    fraction that is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise VesaliusError(f"a fraction of {fraction:g}: take one above 0 and at most 1")
    sizes = Counter(groups)
    chosen = {_in_order(held, seed)[0] for held in _holders(groups, labels).values()}
    for members in _strata(groups, labels).values():
        total = sum(sizes[group] for group in members)
        rows = 0
        for group in _in_order(members, seed):
            if rows >= fraction * total:
                break
            chosen.add(group)
            rows += sizes[group]
    return [group in chosen for group in groups]


def _in_order(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())


def _classes(label: str | None) -> set[str]:
    return set() if label is None else set(findings_of(label)) or {""}


def _holders(groups: Sequence[str], labels: Labels) -> dict[str, set[str]]:
    """The groups that hold each class."""
    holders: dict[str, set[str]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        for name in _classes(label):
            holders[name].add(group)
    return holders


def _strata(groups: Sequence[str], labels: Labels) -> dict[str | None, list[str]]:
    """The groups of each class, every group in its rarest; rarest first, unlabelled ones last."""
    rows = Counter(name for label in labels for name in _classes(label))
    rarest: dict[str, str | None] = dict.fromkeys(groups)
    holders = _holders(groups, labels)
    by_rarity = sorted(holders, key=lambda name: (rows[name], name))
    for name in reversed(by_rarity):
        rarest.update(dict.fromkeys(holders[name], name))
    strata: dict[str | None, list[str]] = {name: [] for name in [*by_rarity, None]}
    for group, name in rarest.items():
        strata[name].append(group)
    return strata
