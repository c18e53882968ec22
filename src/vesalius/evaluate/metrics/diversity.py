"""Are synthetic images as different from each other as real ones are? Each beside real images.

- MS-SSIM of pairs of one class or prompt (Wang et al. 2003), grey, data range 1: 1 for equal images,
  so more is less diverse; the convention of generative medical papers.
- LPIPS of the same pairs (Zhang et al. 2018): 0 for equal images.
- Vendi score (Friedman and Dieng 2023, arXiv:2210.02410): how many different images there are in
  effect, exp of the entropy of the eigenvalues of K / n, K the cosines of features. It grows with n,
  so both are cut to one n.

A model that makes one picture for each prompt can have a good FID on few images; it fails here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vesalius.core.progress import Count
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.base import (
    Case,
    Metric,
    Question,
    Result,
)
from vesalius.evaluate.metrics.beside_real import (
    Mean,
    answer,
    beside,
    centred,
    mean_of_labels,
    sentences,
)
from vesalius.evaluate.sets import ComparedSet, together
from vesalius.images.image_set import ImageSet
from vesalius.images.ms_ssim import ms_ssim
from vesalius.images.pixels import open_rgb, square
from vesalius.statistics.figure import POOLED, Figure
from vesalius.statistics.intervals import LEAST, replicate

COLLAPSED = "less diverse than real images"
SIDE = 256  # pixels that images are compared at
MOST_PAIRS = 500  # of a class; more make no narrower interval, for images repeat in them

Distance = Callable[[Tensor, Tensor], Tensor]  # (B, C, S, S) each, in [0, 1] -> (B,)


@dataclass(frozen=True)
class PairMeasure:
    """How two images are compared, at side x side."""

    name: str
    distance: Distance
    colour: bool = False  # else grey
    most: int = MOST_PAIRS  # of a class
    side: int = SIDE

    @property
    def title(self) -> str:
        """As the report calls it."""
        return self.name.upper().replace("_", "-")


MS_SSIM = PairMeasure("ms_ssim", ms_ssim)


def lpips_measure(device: torch.device | str = "cpu") -> PairMeasure:
    """LPIPS on AlexNet. Raises VesaliusError where its weights are missing."""
    from vesalius.models.networks.lpips import LPIPS

    network = LPIPS("alex").to(device)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return network(2 * x - 1, 2 * y - 1)

    return PairMeasure("lpips", distance, colour=True, most=100)  # a network: slow


def measure(case: Case) -> Result:
    """MS-SSIM and LPIPS within a class, Vendi scores: synthetic images beside all real ones."""
    result = Result()
    real = list(case.references.values())
    known = {*case.fake.labels} & {label for one in real for label in one.labels} or {""}
    both = [_of_labels(case.fake, known), _of_labels(together(real, "all real"), known)]
    measures = {"ms_ssim": lambda: MS_SSIM, "lpips": lambda: lpips_measure(case.device)}
    for name, make in measures.items():
        try:
            found = _by_pairs(case, make(), *both)
        except VesaliusError as error:
            result.leave_out("diversity", name, str(error))
            continue
        _add_by_class(result, found, known)
    for extractor in case.comparable:
        x, y = (one.features[extractor] for one in both)
        labels = [one.labels for one in both]
        with case.progress(f"Vendi score, {extractor}") as count:
            count(0, len(case.fake))
            found = vendi_figures(
                x, y, *labels, groups=(both[0].groups, both[1].groups),
                times=case.replicates, seed=case.seed,
            )  # fmt: skip
        _add_by_class(result, found, known, extractor)
    return result


def _by_pairs(
    case: Case, by: PairMeasure, fake: ComparedSet, real: ComparedSet
) -> dict[str, Figure]:
    options = {"seed": case.seed, "device": case.device}
    key = (by.name, frozenset(fake.labels))
    with case.progress(f"{by.title}, synthetic") as count:
        made = compare_pairs(fake, fake.labels, by, **options, on_images=count)
        made = replace(made, groups=tuple(fake.groups))
    if key not in case.memo:
        with case.progress(f"{by.title}, real") as count:
            own = compare_pairs(real, real.labels, by, **options, on_images=count)
            case.memo[key] = replace(own, groups=tuple(real.groups))
    return pair_figures(by, made, case.memo[key], times=case.replicates, seed=case.seed)


def _add_by_class(
    result: Result, found: Mapping[str, Figure], known: set[str], extractor: str = ""
) -> None:
    for of, figure in found.items():
        if of == POOLED or (of in known and of):
            result.add("diversity", [figure], of=of, extractor=extractor, reference="all real")


def _of_labels(one: ComparedSet, known: set[str]) -> ComparedSet:
    """The images of classes that both sets have: a mean over other classes says nothing."""
    return one.take([k for k, label in enumerate(one.labels) if label in known])


@dataclass(frozen=True)
class PairValues:
    """What some pairs of a set's images have: `pairs` (P, 2) rows, `values` (P,)."""

    pairs: np.ndarray
    values: np.ndarray
    labels: tuple[str, ...]  # of all images of the set
    groups: tuple[str, ...] = ()  # their patients, by whom intervals are drawn; none: by images


def pairs_within(labels: Sequence[str], most: int = MOST_PAIRS, seed: int = 0) -> np.ndarray:
    """All pairs of images of one label (P, 2), or `most` drawn at random of each label's."""
    rng = np.random.default_rng(seed)
    found = [np.empty((0, 2), np.int64)]
    for label in sorted(set(labels)):
        rows = np.array([i for i, name in enumerate(labels) if name == label])
        count = len(rows) * (len(rows) - 1) // 2
        chosen = (
            np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))
        )
        # pair number -> its place in the lower triangle, counted row by row
        high = ((1 + np.sqrt(1 + 8 * chosen)) / 2).astype(np.int64)
        low = chosen - high * (high - 1) // 2
        found.append(np.stack([rows[low], rows[high]], axis=1))
    return np.concatenate(found)


@torch.inference_mode()
def compare_pairs(
    images: ImageSet,
    labels: Sequence[str],
    by: PairMeasure = MS_SSIM,
    *,
    seed: int = 0,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    on_images: Count = lambda done, total: None,
) -> PairValues:
    """How pairs of one label (a class or a prompt) compare; `on_images` counts in the set's images.

    Each image is decoded once and held as bytes. Raises VesaliusError for one that cannot be read.
    """
    pairs = pairs_within(labels, by.most, seed)
    held = {int(row): _pixels(images, int(row), by) for row in np.unique(pairs)}
    values = [np.empty(0)]
    for start in range(0, len(pairs), batch_size):
        on_images(len(images) * start / len(pairs), len(images))
        x, y = (
            torch.stack([torch.from_numpy(held[row]) for row in column]).to(device).float() / 255
            for column in pairs[start : start + batch_size].T.tolist()
        )
        values.append(by.distance(x, y).cpu().numpy())
    return PairValues(pairs, np.concatenate(values).astype(np.float64), tuple(labels))


def _pixels(images: ImageSet, row: int, by: PairMeasure) -> np.ndarray:
    picture = Image.fromarray(square(open_rgb(images.encoded(row)), by.side))
    pixels = np.asarray(picture.convert("RGB" if by.colour else "L"))
    return pixels.reshape(by.side, by.side, -1).transpose(2, 0, 1).copy()  # (C, side, side)


def pair_figures(
    by: PairMeasure, fake: PairValues, real: PairValues, *, times: int = 200, seed: int = 0
) -> dict[str, Figure]:
    """The mean of each label's pairs, and under "all" the mean of the labels', beside real images.

    `floor` is the figure of the real images. Where the interval of the difference lies wholly on
    the side of less diversity, `note` says so.
    """
    labels = sorted({*fake.labels, *real.labels})
    both = [{label: _mean_of(v, label, times, seed) for label in labels} for v in (fake, real)]
    for one in both:
        one[POOLED] = mean_of_labels(list(one.values()), times, seed)
    return {of: beside(by.name, both[0][of], both[1][of]) for of in (POOLED, *labels)}


def _mean_of(values: PairValues, label: str, times: int, seed: int) -> Mean:
    labelled = np.array([name == label for name in values.labels], bool)
    count = int(labelled.sum())
    own = labelled[values.pairs[:, 0]]
    if not own.any():
        return Mean(None, None, count)
    # of a large class only some images are in a pair: replicates of the others would hold no pair
    rows = np.unique(values.pairs[own])
    place = np.full(len(labelled), -1)
    place[rows] = np.arange(len(rows))
    matrix = np.full((len(rows), len(rows)), np.nan)
    i, j = place[values.pairs[own]].T
    matrix[i, j] = matrix[j, i] = values.values[own]

    def mean(chosen: np.ndarray) -> dict[str, float]:
        part = matrix[np.ix_(chosen, chosen)]
        return {"mean": float(np.nanmean(part)) if np.isfinite(part).any() else np.nan}

    patients = [values.groups[row] for row in rows] if values.groups else None
    found, fraction = replicate(mean, (len(rows),), times=times, seed=seed, groups=(patients,))
    spread = centred(found["mean"], fraction) if found else None
    return Mean(float(np.nanmean(matrix)), spread, count)


def vendi(features: np.ndarray) -> float:
    """The Vendi score of features (N, D): from 1, all alike, to N, all at right angles."""
    x = features.astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
    matrix = x @ x.T if len(x) <= x.shape[1] else x.T @ x  # the same eigenvalues but for zeros
    return _vendi_of(matrix / len(x))


def _vendi_of(matrix: np.ndarray) -> float:
    values = np.linalg.eigvalsh(matrix)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_figures(
    fake: np.ndarray,
    real: np.ndarray,
    fake_labels: Sequence[str],
    real_labels: Sequence[str],
    *,
    groups: tuple[Sequence[str], Sequence[str]] | None = None,
    times: int = 200,
    seed: int = 0,
) -> dict[str, Figure]:
    """Vendi scores of features (M, D) and (N, D): of all images, and of each label.

    `floor` is that of as many real images, `floor_n` of each; `value` is that of all synthetic ones.
    Intervals are by `groups`, the patients of both; without, by images.
    """
    sides = (fake, fake_labels), (real, real_labels)
    people = groups or [[str(k) for k in range(len(x))] for x, _ in sides]

    def of(label: str | None) -> Figure:
        both = []
        for (x, labels), names in zip(sides, people, strict=True):
            rows = [k for k, name in enumerate(labels) if label in (None, name)]
            both.append((x[rows], np.array([names[k] for k in rows])))
        return _vendi_beside(both[0], both[1], times, seed)

    labels = sorted({*fake_labels, *real_labels})
    return {POOLED: of(None), **{label: of(label) for label in labels}}


_DRAWS = 20


def _vendi_beside(
    of_fake: tuple[np.ndarray, np.ndarray],
    of_real: tuple[np.ndarray, np.ndarray],
    times: int,
    seed: int,
) -> Figure:
    """Of features (N, D) and the patients (N,) of both sets."""
    (fake, _), (real, _) = of_fake, of_real
    figure = Figure("vendi", None, n=len(fake), n_real=len(real))
    if not len(fake):
        return replace(figure, note="needs 1 synthetic image: left out")
    figure = replace(figure, value=vendi(fake))
    size = min(len(fake), len(real))
    if size < LEAST:
        return replace(figure, note=f"under {LEAST} images: nothing to hold it beside")
    rng = np.random.default_rng(seed)
    means = []
    for features, people in (of_fake, of_real):
        # the score of one draw of a larger set hangs on the draw
        draws = _DRAWS if len(features) > size else 1
        several = [rng.permutation(len(features))[:size] for _ in range(draws)]
        own = features[several[0]]
        found, fraction = replicate(
            lambda rows, own=own: {"vendi": vendi(own[rows])}, (size,), times=times, seed=seed,
            groups=(people[several[0]].tolist(),),
        )  # fmt: skip
        mean = float(np.mean([vendi(features[rows]) for rows in several]))
        spread = centred(found["vendi"], fraction) if found else None
        means.append(Mean(mean, spread, size))
    equal = beside("vendi", means[0], means[1])
    shift = (
        figure.value - equal.value if figure.value is not None and equal.value is not None else 0
    )
    return replace(
        equal,
        value=figure.value,
        n=len(fake),
        n_real=len(real),
        low=equal.low + shift if equal.low is not None else None,
        high=equal.high + shift if equal.high is not None else None,
        at_floor_n=means[0].value,
    )


METRIC = Metric(
    measure,
    {"ms_ssim": "MS-SSIM within a class", "lpips": "LPIPS within a class", "vendi": "Vendi score"},
    (Question("Do they differ from each other?", sentences, answer),),
)
