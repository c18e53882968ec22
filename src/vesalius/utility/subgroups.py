"""Does a classifier do as well for the old as for the young, for women as for men, at each site?

Each subgroup gets its score and its difference from all other images, both with an interval. The
difference is of two disjoint sets of images, so its chance is that of each. The largest gap between
two subgroups is never below zero and grows with their number, so it stands beside the gap that
subgroups of the same sizes, drawn from the patients at random, show by chance.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.corrections import corrected
from vesalius.statistics.figure import Figure
from vesalius.statistics.grouped import in_parts
from vesalius.statistics.paired import spread, student_test
from vesalius.statistics.roc import REPLICATES
from vesalius.utility.intervals import figures, freedom, lone_patient, replicates
from vesalius.utility.scores import Truth, by_seed, predictions, score

FEWEST = 20  # images: a score of fewer is flagged and takes no part in the gap
COLUMNS = ("age", "sex", "site", "localization")
BANDS = ((0, 17), (18, 39), (40, 64), (65, None))  # years
_UNKNOWN = {"", "unknown", "nan", "none", "null", "n/a"}
_PERMUTATIONS = 500


@dataclass(frozen=True)
class Subgroup:
    """One subgroup's score; `difference` is it less the score of all others."""

    name: str
    figure: Figure
    difference: Figure
    p: float | None
    p_corrected: float | None  # over the subgroups of the attribute
    flag: str = ""


@dataclass(frozen=True)
class Equality:
    """One score by one attribute."""

    attribute: str
    score: str
    subgroups: Sequence[Subgroup]
    unknown: int  # images that do not say
    gap: float | None  # best less worst, of the subgroups without a flag
    gap_by_chance: float | None  # its mean where the attribute says nothing
    gap_p: float | None  # of a gap as large by chance
    note: str = ""


def age_band(text: str) -> str:
    """The band of an age in years, as `63`, `63.0` or `063Y`; `0-17` for months; empty if none."""
    match = re.fullmatch(r"\s*(\d+)(?:\.\d+)?\s*([YMWD]?)\s*", text.upper())
    if not match:
        return ""
    years = int(match[1]) if match[2] in ("", "Y") else 0
    for low, high in BANDS:
        if high is None or years <= high:
            return f"{low}-{high}" if high else f"{low}+"
    return ""


def attributes(columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Those of a table's columns that make subgroups, ages in bands; the unknown is empty.

    Columns with fewer than two values are left out.
    """
    made: dict[str, list[str]] = {}
    for name in COLUMNS:
        if name not in columns:
            continue
        values = [str(value or "").strip() for value in columns[name]]
        values = ["" if value.lower() in _UNKNOWN else value for value in values]
        values = [age_band(value) for value in values] if name == "age" else values
        if len(set(values) - {""}) > 1:
            made[name] = values
    return made


def equality(
    truth: Truth,
    probabilities: np.ndarray,
    attribute: str,
    values: Sequence[str],
    *,
    name: str = "auroc",
    times: int = REPLICATES,
    seed: int = 0,
) -> Equality:
    """The score `name` in each subgroup of `values` (N,), of predictions (S, N, C).

    An empty value is unknown and in no subgroup. Subgroups of fewer than `FEWEST` images are
    flagged: their figures are shown and count for nothing.
    Raises VesaliusError where values and images differ in number, or fewer than two are known.
    """
    p, kinds = predictions(truth, probabilities), np.asarray(values, dtype=object)
    if kinds.shape != (len(truth),):
        raise VesaliusError(f"{len(kinds)} values of {attribute} for {len(truth)} images")
    known = kinds != ""
    names = sorted(set(kinds[known].tolist()))
    if len(names) < 2:
        raise VesaliusError(f"{attribute} has no two values to compare among the test images")
    found: list[Subgroup] = []
    for each in names:
        inside, rest = kinds == each, known & (kinds != each)
        parts = [(_compact(truth.rows(rows)), p[:, rows]) for rows in (inside, rest)]
        figure = figures(*parts[0], [name], times=times, seed=seed)[name]
        difference, chance = _difference(parts, name, times, seed)
        few = f"only {inside.sum()} images" if inside.sum() < FEWEST else ""
        found.append(Subgroup(each, figure, difference, chance, None, few or figure.note))
    ps = corrected([None if _few(each) else each.p for each in found])
    found = [replace(each, p_corrected=c) for each, c in zip(found, ps, strict=True)]
    usable = [each.name for each in found if not _few(each) and each.figure.value is not None]
    gap = by_chance = gap_p = None
    if len(usable) > 1:
        numbers = np.array([usable.index(k) if k in usable else -1 for k in kinds.tolist()])
        gap, by_chance, gap_p = _gap(truth, p, numbers, name, seed)
    note = "" if gap is not None else f"no two subgroups of {FEWEST} images: no gap"
    return Equality(attribute, name, found, int((~known).sum()), gap, by_chance, gap_p, note)


def _few(subgroup: Subgroup) -> bool:
    return subgroup.figure.n < FEWEST


def _compact(truth: Truth) -> Truth:
    """Groups numbered from 0 again, after images were left out."""
    return replace(truth, groups=np.unique(truth.groups, return_inverse=True)[1])


def _difference(
    parts: Sequence[tuple[Truth, np.ndarray]], name: str, times: int, seed: int
) -> tuple[Figure, float | None]:
    """Subgroup less rest, with interval and p; seeds are shared, patients nearly always are not."""
    truths = [truth for truth, _ in parts]
    first, rest = (by_seed(name, truth, p) for truth, p in parts)
    gains = first - rest
    figure = Figure(name, None, n=len(truths[0]), details={"n_rest": float(len(truths[1]))})
    if not np.isfinite(gains).all():
        return replace(figure, note="no score of one of the two"), None
    value = float(gains.mean())
    figure = replace(figure, value=value)
    first, rest = (
        replicates(truth, [p], [name], times=times, seed=seed + number)[name][0]
        for number, (truth, p) in enumerate(parts)
    )
    several = first - rest
    of_two = spread(gains, several, freedom(truths[0]))  # degrees of freedom: the subgroup's
    if np.isfinite(several).all(1).mean() < 0.5 or of_two.groups < 1:
        return replace(figure, note="too few patients: no interval"), None
    if lone := next(filter(None, (lone_patient(truth, name) for truth in truths)), ""):
        return replace(figure, note=lone), None
    variance, degrees = of_two.variance("both")
    if variance <= 0:
        return replace(figure, note="every patient scores alike: no interval"), None
    found = student_test(value, variance, degrees)
    return replace(figure, low=found.low, high=found.high), found.p


def _gap(
    truth: Truth, p: np.ndarray, numbers: np.ndarray, name: str, seed: int
) -> tuple[float | None, float | None, float | None]:
    """Best less worst of subgroups numbered (N,) from 0, its mean by chance, and p.

    By chance: subgroups are permuted among whole patients, by the value of their first image.
    """
    subgroups = range(numbers.max() + 1)

    def gap_of(numbers: np.ndarray) -> np.ndarray:  # (R, N) -> (R,)
        several = [
            np.mean([score(name, truth, each, (numbers == k) * 1.0) for each in p], 0)
            for k in subgroups
        ]
        return np.max(several, 0) - np.min(several, 0)

    observed = float(gap_of(numbers[None])[0])
    if not np.isfinite(observed):
        return None, None, None
    groups, first = np.unique(truth.groups, return_index=True)
    position = np.searchsorted(groups, truth.groups)
    rng = np.random.default_rng(seed)
    gaps = np.concatenate(
        [
            gap_of(np.stack([rng.permutation(numbers[first])[position] for _ in range(part)]))
            for part in in_parts(_PERMUTATIONS, len(truth))
        ]
    )
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < _PERMUTATIONS / 2:
        return observed, None, None
    p_value = (1 + (gaps >= observed - 1e-12).sum()) / (1 + len(gaps))
    return observed, float(gaps.mean()), float(p_value)
