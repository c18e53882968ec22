"""Fidelity as it is reported: each figure with its interval, its n, and the floor of real images."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from vesalius.evaluate.metrics.fidelity import (
    Grams,
    K,
    fid,
    fid_of,
    grams,
    kid,
    kid_of,
    prdc,
    prdc_of,
)
from vesalius.statistics.figure import Figure
from vesalius.statistics.intervals import MOST, halves, interval, replicate

RELIABLE = 50  # images: FID of fewer is told apart from others by luck
POOLED = "all"
_NAMES = ("fid", "kid", "precision", "recall", "density", "coverage")
_HELD = 4000  # images of a set whose inner products are held at once: 128 MB
_SPLITS, _LARGE = 10, 1000  # random splits for a floor; of sets larger than this only three
_AT_MOST_ONE = ("precision", "recall", "coverage")


def fidelity(
    real: np.ndarray,
    fake: np.ndarray,
    *,
    k: int = K,
    times: int = 200,
    seed: int = 0,
    real_groups: Sequence[str] | None = None,
    other_real: np.ndarray | None = None,
) -> dict[str, Figure]:
    """FID, KID, precision, recall, density and coverage of features (N, D) and (M, D).

    The floor is that of two parts of `real`, so of half as many images at most; with `other_real`
    (training images, of other patients) it is that of as many of them as there are synthetic ones.

    `times` replicates make an interval (see `vesalius.statistics.intervals`); `real_groups` names the
    patient of each real image, whom neither a replicate nor the floor cuts through.
    A figure that so few images cannot bear has the value None and says in `note` what it needs.
    """
    least = min(len(real), len(fake))
    figures = {name: Figure(name, None, n=len(fake), n_real=len(real)) for name in _NAMES}
    for name, value, details in _values(real, fake, k, seed) if least >= 2 else ():
        figures[name] = replace(figures[name], value=value, details=details)
    spread, fraction = _replicates(real, fake, k, times, seed, real_groups)
    enough = other_real is not None and len(other_real) >= len(fake) >= k + 2 <= len(real)
    if other_real is not None and enough:
        floor, at_floor, floor_n = _same_n_floor(real, fake, other_real, k, seed)
    else:
        floor, at_floor, floor_n = _floor(real, fake, k, seed, real_groups)
    for name, figure in figures.items():
        needed = 2 if name in ("fid", "kid") else k + 2
        notes = []
        if least < needed:
            which = "synthetic" if len(fake) == least else "real"
            note = f"needs {needed} images on each side, there are {least} {which} ones: left out"
            figures[name] = replace(figure, value=None, note=note)
            continue
        if name == "fid" and least < RELIABLE:
            notes.append(f"unreliable: {least} images, under {RELIABLE}")
        if name in spread and figure.value is not None:
            low, high = interval(figure.value, spread[name], fraction)
            top = 1.0 if name in _AT_MOST_ONE else np.inf
            low = low if name == "kid" else max(low, 0.0)  # KID is unbiased and may be negative
            figure = replace(figure, low=low, high=min(high, top))
        else:
            notes.append("too few images for an interval")
        if name in floor:
            figure = replace(figure, floor=floor[name], at_floor_n=at_floor[name], floor_n=floor_n)
        else:
            notes.append("too few real images for a floor")
        figures[name] = replace(figure, note="; ".join(notes))
    return figures


def memorising(
    train: np.ndarray,
    held_out: np.ndarray,
    fake: np.ndarray,
    *,
    times: int = 200,
    seed: int = 0,
    k: int = K,
) -> dict[str, Figure]:
    """How much larger the figures are against held-out images than against training images.

    FID falls with n, so the larger reference is cut, at random, to the size of the smaller. Both
    are compared with the same synthetic images: an interval above 0 for FID or KID says that they
    are nearer to what was trained on than to new images of the same kind, as copies are.
    """
    rng = np.random.default_rng(seed)
    n = min(len(train), len(held_out))
    train, held_out = (x[rng.permutation(len(x))[:n]] for x in (train, held_out))
    enough = min(n, len(fake)) >= 2
    new, seen = (
        {name: value for name, value, _ in _values(x, fake, k, seed)} if enough else {}
        for x in (held_out, train)
    )

    def difference(i: np.ndarray, j: np.ndarray, rows: np.ndarray) -> dict[str, float]:
        new, seen = either[0](i, rows), either[1](j, rows)
        return {name: new[name] - seen[name] for name in new}

    spread, fraction = {}, 0.0
    if enough:
        either = [_Sampler(x, fake, k) for x in (held_out, train)]
        counts = (n, n, len(fake))
        spread, fraction = replicate(difference, counts, times=times, seed=seed, least=k + 1)
    found = {}
    for name in _NAMES:
        gap = new[name] - seen[name] if name in new else None
        low, high = (
            interval(gap, spread[name], fraction) if gap is not None and spread else (None,) * 2
        )
        note = "" if low is not None else "too few images for an interval"
        found[name] = Figure(name, gap, low, high, n=len(fake), n_real=n, note=note)
    return found


class _Sampler:
    """All figures of some rows of two sets, from inner products that are computed once if they fit."""

    def __init__(self, real: np.ndarray, fake: np.ndarray, k: int) -> None:
        self.real, self.fake, self.k = real, fake, k
        self.held = grams(real, fake) if max(len(real), len(fake)) <= _HELD else None

    def __call__(self, i: np.ndarray, j: np.ndarray) -> dict[str, float]:
        if self.held is not None:
            return _all_of(self.held.take(i, j), self.k)
        return _all_of(grams(self.real[i], self.fake[j]), self.k)


def _all_of(g: Grams, k: int) -> dict[str, float]:
    found = {"fid": fid_of(g), "kid": kid_of(g)}
    return found | asdict(prdc_of(g, k)) if min(g.xy.shape) > k else found


def _values(
    real: np.ndarray, fake: np.ndarray, k: int, seed: int
) -> list[tuple[str, float, dict[str, float]]]:
    kernel = kid(real, fake, seed=seed)
    about = {"std": kernel.std, "subset_size": kernel.size, "subsets": kernel.subsets}
    found: list[tuple[str, float, dict[str, float]]] = [
        ("fid", fid(real, fake), {}),
        ("kid", kernel.mean, about),
    ]
    if min(len(real), len(fake)) >= k + 2:
        found += [(name, value, {}) for name, value in asdict(prdc(real, fake, k)).items()]
    return found


def _replicates(
    real: np.ndarray,
    fake: np.ndarray,
    k: int,
    times: int,
    seed: int,
    groups: Sequence[str] | None,
) -> tuple[dict[str, np.ndarray], float]:
    if min(len(real), len(fake)) < 2:
        return {}, 0.0
    sampler = _Sampler(real, fake, k)
    counts = (len(real), len(fake))
    # patients of uneven size can leave a replicate too small for neighbours: told by `least`
    return replicate(
        sampler, counts, times=times, seed=seed, least=k + 1, most=MOST, groups=(groups,)
    )


def _same_n_floor(
    real: np.ndarray, fake: np.ndarray, other: np.ndarray, k: int, seed: int
) -> tuple[dict[str, float], dict[str, float], int]:
    """As `_floor` says, with images of their own in the place of the synthetic ones."""
    rng = np.random.default_rng(seed)
    draws = _SPLITS if len(fake) <= _LARGE else 3
    rows = [rng.permutation(len(other))[: len(fake)] for _ in range(draws)]
    found = [{name: v for name, v, _ in _values(real, other[r], k, seed)} for r in rows]
    itself = {name: value for name, value, _ in _values(real, fake, k, seed)}
    return {n: float(np.mean([f[n] for f in found])) for n in itself}, itself, len(fake)


def _floor(
    real: np.ndarray, fake: np.ndarray, k: int, seed: int, groups: Sequence[str] | None
) -> tuple[dict[str, float], dict[str, float], int]:
    """Real against real, synthetic against real with as many images, and how many that is."""
    size = min(len(fake), len(real) // 2)
    if size < k + 2:
        return {}, {}, 0
    rng = np.random.default_rng(seed)
    floors, figures, sizes = [], [], []
    for _ in range(_SPLITS if size <= _LARGE else 3):
        first, second = halves(len(real), size, rng, groups)
        if (size_here := min(len(first), len(second))) < k + 2:
            return {}, {}, 0
        some = rng.permutation(len(fake))[:size_here]
        floors.append(_all_of(grams(real[second], real[first]), k))
        figures.append(_all_of(grams(real[second], fake[some]), k))
        sizes.append(size_here)
    mean = [
        {n: float(np.mean([f[n] for f in each])) for n in each[0]} for each in (floors, figures)
    ]
    return mean[0], mean[1], round(float(np.mean(sizes)))
