"""Do synthetic images look like real ones? FID, KID, PRDC, each beside the floor of real images.

The floor is the same figure of real images against other real images, in the same number: FID falls
with the number of images, so that it alone says little.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from vesalius.evaluate.metrics import radiomics
from vesalius.evaluate.metrics.base import NEAR, Case, Figures, Metric, Question, Result, Sentence
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.statistics.distances import (
    Grams,
    K,
    Within,
    fid,
    fid_of,
    grams,
    kid,
    kid_of,
    mmd_and_prdc,
    prdc,
    prdc_of,
    within,
)
from vesalius.statistics.figure import POOLED, Figure, Measured, select
from vesalius.statistics.intervals import LEAST, halves, interval, replicate

RELIABLE = 50  # images: FID of fewer differs from others by luck
_NAMES = ("fid", "kid", "precision", "recall", "density", "coverage")
_HELD = 4000  # images of a set whose inner products are held at once: 128 MB
_SPLITS, _LARGE = 10, 1000  # random splits for a floor; of sets larger than this only three
_AT_MOST_ONE = ("precision", "recall", "coverage")


def measure(case: Case) -> Result:
    """All figures for each extractor, reference and class; FRD; and the gap of the two references."""
    result, size = Result(), len(case.fake)
    jobs = [(reference, of) for reference in case.compared for of in (POOLED, *case.classes)]
    for extractor in case.comparable:
        with case.progress(f"FID, KID and others, {extractor}") as count:
            for done, (reference, of) in enumerate(jobs):
                count(done * size, len(jobs) * size)  # at most: a class is a part of the set
                found = _of_class(case, extractor, reference, of)
                result.add("fidelity", found, of=of, extractor=extractor, reference=reference)
    if case.divided:
        with case.progress("memorising") as count:
            for done, extractor in enumerate(case.comparable):
                count(done * size, len(case.comparable) * size)
                both = [case.compared[name] for name in (TRAIN, HELD_OUT)]
                gap = gap_to_trained(
                    *(one.features[extractor] for one in (*both, case.fake)),
                    groups=(both[0].groups, both[1].groups),
                    times=case.replicates,
                    seed=case.seed,
                )
                where = {"extractor": extractor, "reference": f"{HELD_OUT} - {TRAIN}"}
                result.add("memorising", gap.values(), **where)
    result.figures.append(radiomics.measure(*case.new, case.fake.images))
    return result


def _of_class(case: Case, extractor: str, reference: str, of: str) -> list[Figure]:
    real, fake = case.compared[reference], case.fake
    other = next((s for name, s in case.compared.items() if name != reference), None)
    if of != POOLED:
        real, fake = (one.take(one.rows(of)) for one in (real, fake))
        other = other and other.take(other.rows(of))
    found = fidelity(
        real.features[extractor],
        fake.features[extractor],
        times=case.replicates,
        seed=case.seed,
        real_groups=real.groups,
        other_real=other.features[extractor] if other else None,
    )
    return list(found.values())


def fidelity(
    real: np.ndarray,
    fake: np.ndarray,
    *,
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
    values = _values(real, fake, seed)
    spread, fraction = {}, 0.0
    if min(len(real), len(fake)) >= LEAST:
        spread, fraction = replicate(
            _Sampler(real, fake), (len(real), len(fake)), times=times, seed=seed,
            least=K + 1,  # patients of uneven size can leave too few for neighbours
            groups=(real_groups,),
        )  # fmt: skip
    if other_real is not None and len(other_real) >= len(fake) >= K + 2 <= len(real):
        floor = _same_n_floor(real, fake, other_real, values, seed)
    else:
        floor = _halves_floor(real, fake, seed, real_groups)
    return {
        name: _with_interval(figure, spread.get(name), fraction, floor)
        if (figure := values[name]).value is not None
        else figure
        for name in _NAMES
    }


def _values(real: np.ndarray, fake: np.ndarray, seed: int) -> dict[str, Figure]:
    """Every figure without its interval; without a value where there are too few images."""
    n, n_real = len(fake), len(real)
    least = min(n, n_real)
    found: dict[str, tuple[float, dict[str, float]]] = {}
    if least >= 2:
        kernel = kid(real, fake, seed=seed)
        about = {"std": kernel.std, "subset_size": kernel.size, "subsets": kernel.subsets}
        found = {"fid": (fid(real, fake), {}), "kid": (kernel.mean, about)}
    if least >= K + 2:
        found |= {name: (value, {}) for name, value in asdict(prdc(real, fake)).items()}
    which = "synthetic" if n == least else "real"
    figures = {}
    for name in _NAMES:
        if name in found:
            value, details = found[name]
            figures[name] = Figure(name, value, n=n, n_real=n_real, details=details)
            continue
        needed = 2 if name in ("fid", "kid") else K + 2
        note = f"needs {needed} images on each side, there are {least} {which} ones: left out"
        figures[name] = Figure(name, None, n=n, n_real=n_real, note=note)
    return figures


@dataclass(frozen=True)
class _Floor:
    """Real against real, and synthetic against real, with `n` images each."""

    real: Mapping[str, float]
    synthetic: Mapping[str, float]
    n: int


def _with_interval(
    figure: Figure, spread: np.ndarray | None, fraction: float, floor: _Floor | None
) -> Figure:
    name, notes = figure.name, []
    assert figure.value is not None
    if name == "fid" and (least := min(figure.n, figure.n_real)) < RELIABLE:
        notes.append(f"unreliable: {least} images, under {RELIABLE}")
    if spread is None:
        notes.append(_no_interval(min(figure.n, figure.n_real)))
    else:
        low, high = interval(figure.value, spread, fraction)
        low = low if name == "kid" else max(low, 0.0)  # KID is unbiased and may be negative
        high = min(high, 1.0 if name in _AT_MOST_ONE else np.inf)
        figure = replace(figure, low=low, high=high)
    if floor is None or name not in floor.real:
        notes.append("too few real images for a floor")
    else:
        at = floor.synthetic[name]
        figure = replace(figure, floor=floor.real[name], at_floor_n=at, floor_n=floor.n)
    return replace(figure, note="; ".join(notes))


def _no_interval(images: int) -> str:
    """Why there is none, by the images of the smaller set."""
    if images < LEAST:
        return "too few images for an interval"
    return "too few patients, or sets of too unequal sizes, for an interval"


def gap_to_trained(
    train: np.ndarray,
    held_out: np.ndarray,
    fake: np.ndarray,
    *,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
    times: int = 200,
    seed: int = 0,
) -> dict[str, Figure]:
    """How much larger the figures are against held-out images than against training images.

    FID falls with n, so the larger reference is cut, at random, to the size of the smaller. Both
    are compared with the same synthetic images: an interval above 0 for FID or KID says that they
    are nearer to what was trained on than to new images of the same kind, as copies are.
    `groups` names the patients of training and of held-out images, who are drawn whole.
    """
    rng = np.random.default_rng(seed)
    n = min(len(train), len(held_out))
    rows: list[list[int]] = [rng.permutation(len(x))[:n].tolist() for x in (train, held_out)]
    train, held_out = train[rows[0]], held_out[rows[1]]
    named: Sequence[Sequence[str]] = groups or ()
    people = [[names[k] for k in own] for names, own in zip(named, rows, strict=False)]
    new, seen = (_values(x, fake, seed) for x in (held_out, train))
    spread, fraction = {}, 0.0
    if min(n, len(fake)) >= LEAST:
        of_new, of_seen = (_Sampler(x, fake) for x in (held_out, train))

        def difference(i: np.ndarray, j: np.ndarray, rows: np.ndarray) -> dict[str, float]:
            new, seen = of_new(i, rows), of_seen(j, rows)
            return {name: new[name] - seen[name] for name in new}

        counts = (n, n, len(fake))
        spread, fraction = replicate(
            difference, counts, times=times, seed=seed, least=K + 1, groups=people[::-1]
        )
    found = {}
    for name in _NAMES:
        above, below = new[name].value, seen[name].value
        gap = above - below if above is not None and below is not None else None
        low = high = None
        if gap is not None and spread:
            low, high = interval(gap, spread[name], fraction)
        note = "" if low is not None else _no_interval(min(n, len(fake)))
        found[name] = Figure(name, gap, low, high, n=len(fake), n_real=n, note=note)
    return found


class _Sampler:
    """All figures of some rows of two sets, from inner products that are computed once if they fit."""

    def __init__(self, real: np.ndarray, fake: np.ndarray) -> None:
        self.real, self.fake = real, fake
        self.held = grams(real, fake) if max(len(real), len(fake)) <= _HELD else None

    def __call__(self, i: np.ndarray, j: np.ndarray) -> dict[str, float]:
        if self.held is not None:
            return _all_of(self.held.take(i, j))
        return _all_of(grams(self.real[i], self.fake[j]))


def _all_of(g: Grams) -> dict[str, float]:
    found = {"fid": fid_of(g), "kid": kid_of(g)}
    return found | asdict(prdc_of(g)) if min(g.xy.shape) > K else found


def _of_whole_sets(real: np.ndarray, fake: np.ndarray, of_real: Within) -> dict[str, float]:
    """The same of all rows, K + 1 at least, whose inner products need not fit in memory."""
    kernel, near = mmd_and_prdc((real, fake), (of_real, within(fake)))
    return {"fid": fid(real, fake), "kid": kernel, **asdict(near)}


def _same_n_floor(
    real: np.ndarray, fake: np.ndarray, other: np.ndarray, values: Mapping[str, Figure], seed: int
) -> _Floor:
    """With other real images in the place of the synthetic ones, as many."""
    rng = np.random.default_rng(seed)
    draws = _SPLITS if len(fake) <= _LARGE else 3
    rows = [rng.permutation(len(other))[: len(fake)] for _ in range(draws)]
    found = [_values(real, other[r], seed) for r in rows]
    return _Floor(
        {name: float(np.mean([each[name].value or 0.0 for each in found])) for name in _NAMES},
        {name: values[name].value or 0.0 for name in _NAMES},
        len(fake),
    )


def _halves_floor(
    real: np.ndarray, fake: np.ndarray, seed: int, groups: Sequence[str] | None
) -> _Floor | None:
    """Of two parts of the real images, no patient in both; None where they are too few."""
    size = min(len(fake), len(real) // 2)
    if size < K + 2:
        return None
    rng = np.random.default_rng(seed)
    floors, figures, sizes = [], [], []
    for _ in range(_SPLITS if size <= _LARGE else 3):
        first, second = halves(len(real), size, rng, groups)
        if (size_here := min(len(first), len(second))) < K + 2:
            return None
        some = rng.permutation(len(fake))[:size_here]
        new, *others = (each[rows] for each, rows in ((real, second), (real, first), (fake, some)))
        of_new = within(new)
        for found, other in zip((floors, figures), others, strict=True):
            found.append(_of_whole_sets(new, other, of_new))
        sizes.append(size_here)
    real_mean, fake_mean = (
        {name: float(np.mean([each[name] for each in found])) for name in _NAMES}
        for found in (floors, figures)
    )
    return _Floor(real_mean, fake_mean, round(float(np.mean(sizes))))


def _sentences(figures: Figures, reference: str) -> Iterator[Sentence]:
    pooled = select(figures, of=POOLED, reference=reference)
    for figure in select(pooled, metric="fid"):
        yield _distance(figure, reference)
    for metric, what, who in (
        ("precision", "How far synthetic images look like real ones", "; of as many"),
        ("coverage", "How much of the variety of real ones is reached", "; by as many"),
    ):
        for figure in select(pooled, metric=metric)[:1]:
            here, floor = figure.at_floor_n, figure.floor
            if here is not None and floor:
                text = f"{what} ({metric}, {figure.extractor}): {here:.0%}{who} real images {floor:.0%}."
                yield ("good" if here * NEAR >= floor else "bad"), text


def _distance(figure: Measured, reference: str) -> Sentence:
    here, floor, who = figure.at_floor_n, figure.floor, figure.extractor
    if figure.value is None or here is None or not floor:
        return "unknown", f"The distance to real images (FID, {who}): {figure.note}."
    text = (
        f"The synthetic images are {here:.1f} away from {_new(reference)} (FID, {who}), where other "
        f"real images in the same number are {floor:.1f} away: {here / floor:.1f} times as far."
    )
    return ("good" if here <= NEAR * floor else "bad"), text


def _new(reference: str) -> str:
    return "images that the model never saw" if reference == HELD_OUT else "real images"


def _answer(figures: Figures, reference: str) -> str:
    ratios = [
        f.at_floor_n / f.floor
        for f in select(figures, metric="fid", of=POOLED, reference=reference)
        if f.at_floor_n is not None and f.floor
    ]
    if not ratios:
        return ""
    new = "images the model never saw" if reference == HELD_OUT else "real images"
    ends = dict.fromkeys(f"{value:.1f}" for value in (min(ratios), max(ratios)))
    return f"{' to '.join(ends)} times as far from {new} as other real images are (FID)"


METRIC = Metric(
    measure,
    {
        "fid": "FID",
        "kid": "KID",
        "frd": "Radiomic distance (FRD)",
        "precision": "Precision",
        "recall": "Recall",
        "density": "Density",
        "coverage": "Coverage",
    },
    (Question("Do they look like real images?", _sentences, _answer),),
)
