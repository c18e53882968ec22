"""A figure of diversity beside that of real images: the difference, its interval, and what is said of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from vesalius.core.labels import listed
from vesalius.evaluate.metrics.base import NEAR, Figures, P, Sentence
from vesalius.statistics.figure import POOLED, Figure, Measured, select
from vesalius.statistics.intervals import LEAST, LEVEL, replicate

COLLAPSED = "less diverse than real images"
_TITLES = {"ms_ssim": "MS-SSIM", "lpips": "LPIPS", "vendi": "Vendi score"}
MORE_IS_ALIKE = ("ms_ssim",)  # of the others less is


@dataclass(frozen=True)
class Mean:
    """A mean, the spread of its replicates about 0, scaled to its n, and n."""

    value: float | None
    spread: np.ndarray | None
    n: int


def centred(values: np.ndarray, fraction: float) -> np.ndarray:
    """The spread of what `replicate` returns, as of all images."""
    return (values - values.mean()) * np.sqrt(fraction / (1 - fraction))


def mean_of_labels(means: Sequence[Mean], times: int, seed: int) -> Mean:
    """The mean of labels. With many, each of few images (prompts), the labels are what is drawn."""
    known = [each for each in means if each.value is not None]
    total = sum(each.n for each in means)
    if not known:
        return Mean(None, None, total)
    values = np.array([each.value for each in known], np.float64)
    spread = None
    spreads = [each.spread for each in known if each.spread is not None]
    if len(spreads) == len(known):
        spread = np.mean(spreads, axis=0)
    elif len(known) >= LEAST:
        found, fraction = replicate(
            lambda rows: {"mean": float(values[rows].mean())},
            (len(values),),
            times=times,
            seed=seed,
        )
        spread = centred(found["mean"], fraction)
    return Mean(float(values.mean()), spread, total)


def beside(name: str, fake: Mean, real: Mean) -> Figure:
    """The figure `name` of a set; where the whole interval is on the side of less diversity, a note says so."""
    figure = Figure(name, fake.value, n=fake.n, n_real=real.n, floor=real.value, floor_n=real.n)
    if fake.value is None:
        return replace(figure, note="needs 2 synthetic images of one label: left out")
    if real.value is None:
        return replace(figure, note="no real images of this label to hold it beside")
    figure = replace(figure, at_floor_n=fake.value)
    if fake.spread is None or real.spread is None:
        return replace(figure, note=f"under {LEAST} images or patients: no interval")
    low, high = _around(fake.value, fake.spread)
    # two independent samples: draws of one and of the other belong to no common replicate
    apart = np.random.default_rng(0).permutation(real.spread)
    below, above = _around(fake.value - real.value, fake.spread - apart)
    collapsed = below > 0 if name in MORE_IS_ALIKE else above < 0
    details = {"difference": fake.value - real.value, "difference_low": below,
               "difference_high": above}  # fmt: skip
    note = COLLAPSED if collapsed else ""
    return replace(figure, low=low, high=high, details=details, note=note)


def _around(value: float, spread: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(spread, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(value - high), float(value - low)


def sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    """What is said of each measure, and of classes that are too much alike."""
    own, tests = _tested(figures)
    for metric, what in _TITLES.items():
        found = select(own, metric=metric)
        for one in select(found, of=POOLED):
            name = f"{what} by {one.extractor}" if one.extractor else what
            numbers = f"({name} {_at_one_n(one):.2f}, of real images {one.floor:.2f})"
            if one.details.get("difference_low") is None:
                why = one.note or "the difference has no interval"
                yield "unknown", f"Whether images of a class differ {numbers}: {why}."
            elif _too_alike(one, tests):
                yield (
                    "bad",
                    f"The images are less different from each other than real ones {numbers}.",
                )
            elif _near(one):
                text = f"The images differ from each other about as much as real ones do {numbers}."
                yield "good", text
            else:
                yield (
                    "unknown",
                    f"The images may be less different from each other than real ones {numbers}: that is "
                    "not shown, more images would tell.",
                )
        if alike := [f.of for f in found if _too_alike(f, tests) and f.of != POOLED]:
            yield "bad", f"Too much alike by {what}: {listed(list(dict.fromkeys(alike)))}."


def _tested(figures: Figures) -> tuple[list[Measured], int]:
    """All figures that stand beside one of real images, and how many of them are tests."""
    own = select(figures, part="diversity")
    own = [f for f in own if f.value is not None and f.floor is not None]
    return own, max(1, sum("difference" in f.details for f in own))


def _at_one_n(figure: Measured) -> float:
    value = figure.value if figure.at_floor_n is None else figure.at_floor_n
    return value or 0.0


def _near(figure: Measured) -> bool:
    """Whether it is near enough to that of real images, or on the side of more diversity."""
    here, floor = _at_one_n(figure), figure.floor or 0.0
    return here <= NEAR * floor if figure.metric in MORE_IS_ALIKE else NEAR * here >= floor


def _too_alike(figure: Measured, tests: int) -> bool:
    """Less diverse than real images, by an interval as wide as so many tests need (Bonferroni)."""
    if figure.note != COLLAPSED:
        return False
    difference, low, high = (
        figure.details[f"difference{end}"] or 0 for end in ("", "_low", "_high")
    )
    normal = NormalDist()
    wider = normal.inv_cdf(1 - P / (2 * tests)) / normal.inv_cdf(1 - P / 2)
    above, below = (high - difference) * wider, (difference - low) * wider
    return difference + above < 0 or difference - below > 0


def answer(figures: Figures, _reference: str) -> str:
    """The same in one line."""
    own, tests = _tested(figures)
    pooled = select(own, of=POOLED)
    known = [f for f in pooled if f.details.get("difference_low") is not None]
    if not known:
        return "too few images to tell" if pooled else ""
    if less := sum(_too_alike(f, tests) for f in known):
        return f"less than real images of a class do, by {less} of {len(known)} measures"
    if alike := {f.of for f in own if _too_alike(f, tests)}:
        return f"less than real images do in {len(alike)} of the classes"
    if not all(map(_near, known)):
        return "perhaps less than real images of a class do; more images would tell"
    return "about as much as real images of a class do"
