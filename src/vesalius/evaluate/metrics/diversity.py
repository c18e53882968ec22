"""Are synthetic images as different from each other as real ones are? Each beside real images.

- MS-SSIM of pairs of one class or prompt (Wang et al. 2003), grey, data range 1: 1 for equal images,
  so more is less diverse; the convention of generative medical papers.
- LPIPS of the same pairs (Zhang et al. 2018): 0 for equal images.
- Vendi score (Friedman and Dieng 2023, arXiv:2210.02410): how many different images there are in
  effect, exp of the entropy of the eigenvalues of K / n, K the cosines of features. It grows with n,
  so both sides are cut to one n.

A model that makes one picture for each prompt can have a good FID on few images; it fails here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet
from vesalius.images.pixels import open_rgb, square
from vesalius.statistics.figure import Figure
from vesalius.statistics.intervals import LEAST, LEVEL, replicate

POOLED = "all"
COLLAPSED = "less diverse than real images"
SIDE = 256  # pixels that images are compared at
MOST_PAIRS = 500  # of a class; more make no narrower interval, for images repeat in them
_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2

Distance = Callable[[Tensor, Tensor], Tensor]  # (B, C, S, S) each, in [0, 1] -> (B,)


@torch.inference_mode()
def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of pairs of images (B, 1, H, W) in [0, 1]: (B,), 1 for equal ones.

    Five scales, a Gaussian window of 11 pixels, negative parts taken for 0. The window stays inside
    the image for the contrast and is reflected at its border for the last scale's luminance, as in
    torchmetrics, to which this is equal; where it stays inside throughout, figures differ by 0.001.
    Raises VesaliusError for sides under 176 pixels, whose last scale the window does not fit.
    """
    if min(x.shape[-2:]) < _WINDOW * 2 ** (len(_BETAS) - 1):
        raise VesaliusError(f"MS-SSIM needs sides of 176 pixels or more, not {tuple(x.shape[-2:])}")
    found = torch.ones(len(x), device=x.device)
    for beta in _BETAS[:-1]:
        found = found * _contrast(x, y).mean((1, 2, 3)).clamp(min=0) ** beta
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    x, y = (F.pad(each, (_WINDOW // 2,) * 4, mode="reflect") for each in (x, y))
    mean_x, mean_y = _blurred(x), _blurred(y)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    last = (luminance * _contrast(x, y)).mean((1, 2, 3))
    return found * last.clamp(min=0) ** _BETAS[-1]


def _contrast(x: Tensor, y: Tensor) -> Tensor:
    """The contrast and structure part of SSIM, (B, 1, H - 10, W - 10)."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = (_blurred(x * x) - mean_x * mean_x).clamp(min=0)
    var_y = (_blurred(y * y) - mean_y * mean_y).clamp(min=0)
    return (2 * (_blurred(x * y) - mean_x * mean_y) + _C2) / (var_x + var_y + _C2)


def _blurred(x: Tensor) -> Tensor:
    """Gaussian means where the window fits: (B, 1, H - 10, W - 10)."""
    rows, columns = (_band(side).to(x.device) for side in x.shape[-2:])
    return rows @ x @ columns.T  # on a CPU many times faster than a convolution of one channel


@lru_cache(maxsize=16)
def _band(side: int) -> Tensor:
    """(side - 10, side): the window at each place where it fits."""
    at = torch.arange(_WINDOW) - (_WINDOW - 1) / 2
    window = torch.exp(-(at**2) / (2 * _SIGMA**2))
    band = torch.zeros(side - _WINDOW + 1, side)
    for k, weight in enumerate(window / window.sum()):
        band.diagonal(k).fill_(float(weight))
    return band


def lpips_distance(device: torch.device | str = "cpu") -> Distance:
    """LPIPS on AlexNet for images in [0, 1]. Raises VesaliusError where its weights are missing."""
    from vesalius.models.networks.lpips import LPIPS

    network = LPIPS("alex").to(device)
    return lambda x, y: network(2 * x - 1, 2 * y - 1)


@dataclass(frozen=True)
class PairValues:
    """What some pairs of a set's images have: `pairs` (P, 2) rows, `values` (P,)."""

    pairs: np.ndarray
    values: np.ndarray
    labels: tuple[str, ...]  # of all images of the set


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
    distance: Distance = ms_ssim,
    *,
    colour: bool = False,
    side: int = SIDE,
    most: int = MOST_PAIRS,
    seed: int = 0,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
) -> PairValues:
    """`distance` of pairs of one label (a class or a prompt), at side x side, grey or in colour.

    Each image is decoded once and held as bytes. Raises VesaliusError for one that cannot be read.
    """
    pairs = pairs_within(labels, most, seed)
    mode = "RGB" if colour else "L"
    held = {int(row): _pixels(images, int(row), side, mode) for row in np.unique(pairs)}
    values = [np.empty(0)]
    for start in range(0, len(pairs), batch_size):
        x, y = (
            torch.stack([torch.from_numpy(held[row]) for row in column]).to(device).float() / 255
            for column in pairs[start : start + batch_size].T.tolist()
        )
        values.append(distance(x, y).cpu().numpy())
    return PairValues(pairs, np.concatenate(values).astype(np.float64), tuple(labels))


def _pixels(images: ImageSet, row: int, side: int, mode: str) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(square(open_rgb(images.encoded(row)), side)).convert(mode)
    return np.asarray(picture).reshape(side, side, -1).transpose(2, 0, 1).copy()  # (C, side, side)


def pair_figures(
    name: str,
    fake: PairValues,
    real: PairValues,
    *,
    more_is_alike: bool,
    times: int = 200,
    seed: int = 0,
) -> dict[str, Figure]:
    """The mean of each label's pairs, and under "all" the mean of the labels', beside real images.

    `floor` is the figure of the real images. Where the interval of the difference lies wholly on
    the side of less diversity, `note` says so. MS-SSIM: `more_is_alike`; LPIPS: not.
    """
    labels = sorted({*fake.labels, *real.labels})
    sides = [{label: _mean_of(v, label, times, seed) for label in labels} for v in (fake, real)]
    for one in sides:
        one[POOLED] = _together(list(one.values()))
    sign = 1 if more_is_alike else -1
    return {
        label: _beside(name, sides[0][label], sides[1][label], sign) for label in (POOLED, *labels)
    }


@dataclass(frozen=True)
class _Mean:
    """A mean, the spread of its replicates about 0, scaled to its n, and n."""

    value: float | None
    spread: np.ndarray | None
    n: int


def _mean_of(values: PairValues, label: str, times: int, seed: int) -> _Mean:
    labelled = np.array([name == label for name in values.labels], bool)
    count = int(labelled.sum())
    own = labelled[values.pairs[:, 0]]
    if not own.any():
        return _Mean(None, None, count)
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

    found, fraction = replicate(mean, (len(rows),), times=times, seed=seed)
    spread = _centred(found["mean"], fraction) if found else None
    return _Mean(float(np.nanmean(matrix)), spread, count)


def _centred(values: np.ndarray, fraction: float) -> np.ndarray:
    return (values - values.mean()) * np.sqrt(fraction / (1 - fraction))


def _together(means: Sequence[_Mean]) -> _Mean:
    """The mean of labels. With many, each of few images (prompts), the labels are what is drawn."""
    known = [each for each in means if each.value is not None]
    total = sum(each.n for each in means)
    if not known:
        return _Mean(None, None, total)
    values = np.array([each.value for each in known], np.float64)
    spread = None
    spreads = [each.spread for each in known if each.spread is not None]
    if len(spreads) == len(known):
        spread = np.mean(spreads, axis=0)
    elif len(known) >= LEAST:
        found, fraction = replicate(
            lambda rows: {"mean": float(values[rows].mean())}, (len(values),)
        )
        spread = _centred(found["mean"], fraction)
    return _Mean(float(values.mean()), spread, total)


def _beside(name: str, fake: _Mean, real: _Mean, sign: int) -> Figure:
    figure = Figure(name, fake.value, n=fake.n, n_real=real.n, floor=real.value, floor_n=real.n)
    if fake.value is None:
        return replace(figure, note="needs 2 synthetic images of one label: left out")
    if real.value is None:
        return replace(figure, note="no real images of this label to hold it beside")
    figure = replace(figure, at_floor_n=fake.value)
    if fake.spread is None or real.spread is None:
        return replace(figure, note=f"under {LEAST} images: no interval")
    low, high = _around(fake.value, fake.spread)
    # two independent samples: draws of one and of the other belong to no common replicate
    apart = np.random.default_rng(0).permutation(real.spread)
    below, above = _around(fake.value - real.value, fake.spread - apart)
    collapsed = below > 0 if sign > 0 else above < 0
    details = {"difference": fake.value - real.value, "difference_low": below,
               "difference_high": above}  # fmt: skip
    note = COLLAPSED if collapsed else ""
    return replace(figure, low=low, high=high, details=details, note=note)


def _around(value: float, spread: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(spread, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(value - high), float(value - low)


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
    times: int = 200,
    seed: int = 0,
) -> dict[str, Figure]:
    """Vendi scores of features (M, D) and (N, D): of all images, and of each label.

    `floor` is that of as many real images, `floor_n` of each; `value` is that of all synthetic ones.
    """
    found = {POOLED: _vendi_beside(fake, real, times, seed)}
    for label in sorted({*fake_labels, *real_labels}):
        ours = [i for i, name in enumerate(fake_labels) if name == label]
        theirs = [i for i, name in enumerate(real_labels) if name == label]
        found[label] = _vendi_beside(fake[ours], real[theirs], times, seed)
    return found


_DRAWS = 20


def _vendi_beside(fake: np.ndarray, real: np.ndarray, times: int, seed: int) -> Figure:
    figure = Figure("vendi", None, n=len(fake), n_real=len(real))
    if not len(fake):
        return replace(figure, note="needs 1 synthetic image: left out")
    figure = replace(figure, value=vendi(fake))
    size = min(len(fake), len(real))
    if size < LEAST:
        return replace(figure, note=f"under {LEAST} images: nothing to hold it beside")
    rng = np.random.default_rng(seed)
    means = []
    for features in (fake, real):
        # the score of one draw of a larger set hangs on the draw
        draws = _DRAWS if len(features) > size else 1
        several = [features[rng.permutation(len(features))[:size]] for _ in range(draws)]
        own = several[0]
        found, fraction = replicate(
            lambda rows, own=own: {"vendi": vendi(own[rows])}, (size,), times=times, seed=seed
        )
        mean = float(np.mean([vendi(one) for one in several]))
        means.append(_Mean(mean, _centred(found["vendi"], fraction), size))
    equal = _beside("vendi", means[0], means[1], sign=-1)
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
