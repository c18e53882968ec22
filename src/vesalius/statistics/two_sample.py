"""Are synthetic images nearer to what was trained on than to real images that were held out?

Each synthetic image has a nearest training image at d_train and a nearest held-out image at d_held.
A model that has learnt the kind of image, and no image by heart, is as near to the one as to the
other, but for there being more training images. So the labels "trained on" and "held out" are
permuted among all real images, whole patients at a time and within each source, and the mean of
log(d_train / d_held) under the true labels is compared with those under permuted ones. Such a test is
exact, whatever the distances are like, as long as the split was drawn at random.

It is blind to few copies, as any test is that trusts nothing but the split: where a tenth of the real
images is held out, the originals of m copies are all training images by chance in 0.9^m of all
permutations, which takes 29 copies to fall below 5 %. `tail_test` trusts more: that an honest synthetic image is as
far from its nearest training image, for its distance to held-out images, as a held-out image itself
is. It asks of the lower tail alone, where copies are, and finds a handful, given as many held-out
images as synthetic ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 999
PART = 0.05  # of all images, those with the lowest ratios, are the tail
_ZERO = 1e-3  # of the median distance; for the logarithm of that of an exact copy


@dataclass(frozen=True)
class Memorising:
    """`ratio` is the geometric mean of d_train / d_held over what it is under permuted labels.

    1 is no memorising, less is more. `p` is the share of permutations whose mean is as low.
    """

    ratio: float
    p: float
    n: int  # synthetic images
    n_train: int
    n_held_out: int
    permutations: int


@dataclass(frozen=True)
class Tail:
    """`share` of the synthetic images and `honest` of the held-out ones are in the tail.

    `p` is the share of permutations in which synthetic images lie as deep in it.
    """

    share: float
    honest: float
    p: float
    n: int  # synthetic images
    n_honest: int
    permutations: int


def log_ratio(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """log(d_train / d_held) of distances (N,) and (N,); an exact copy has one too."""
    zero = _ZERO * max(float(np.median(train)), 1e-12) if len(train) else 0.0
    return np.log(train + zero) - np.log(held_out + zero)


def tail_test(
    synthetic: np.ndarray,
    honest: np.ndarray,
    strata: tuple[Sequence[str], Sequence[str]],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Tail | None:
    """Do synthetic images lie deeper in the lower tail of `log_ratio` than held-out real ones do?

    `synthetic` (N,) and `honest` (H,) are the ratios, those of a held-out image to training images
    and to the held-out images of other patients; `strata` name their sources. The tail is the lowest
    PART of each source, both kinds together, and the statistic how far the synthetic images lie
    below its edge in sum; which of the images of a source are synthetic is permuted.
    None where no source has both kinds.
    """
    ratios = np.concatenate([synthetic, honest])
    ours = np.arange(len(ratios)) < len(synthetic)
    stratum = np.unique([*strata[0], *strata[1]], return_inverse=True)[1]
    both = np.bincount(stratum, ours, stratum.max(initial=0) + 1) % np.bincount(stratum) > 0
    kept = both[stratum]
    ratios, ours, stratum = ratios[kept], ours[kept], stratum[kept]
    if not len(ratios):
        return None
    edge = np.zeros(stratum.max() + 1)
    for each in np.unique(stratum):
        edge[each] = np.quantile(ratios[stratum == each], PART)
    depth = np.maximum(edge[stratum] - ratios, 0)
    # permuted in the order of the strata, so that each keeps its numbers
    order = np.argsort(stratum, kind="stable")
    depth_in_order, ours_in_order = depth[order], ours[order]
    rng = np.random.default_rng(seed)
    permuted = np.array(
        [
            depth_in_order[np.lexsort((rng.random(len(order)), stratum[order]))][
                ours_in_order
            ].sum()
            for _ in range(permutations)
        ]
    )
    p = (1 + np.count_nonzero(permuted >= depth[ours].sum() - 1e-12)) / (1 + permutations)
    deep = ratios <= edge[stratum]
    share, honest_share = (float(deep[kind].mean()) for kind in (ours, ~ours))
    return Tail(share, honest_share, float(p), int(ours.sum()), int((~ours).sum()), permutations)


def memorising_test(
    index: np.ndarray,
    distance: np.ndarray,
    held_out: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    strata: Sequence[str] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Memorising:
    """The test above, one-sided.

    `index` and `distance` (N, k) are the nearest of all real images, trained on or not, to each
    synthetic one, nearest first; `held_out` (M,) bool tells them apart, `groups` and `strata` (M,)
    name their patients and sources. Where none of the k has a label, the k-th stands for its nearest:
    k should be several times M over the number of held-out images.
    """
    permute = _Permuter(held_out, groups, strata)
    rng = np.random.default_rng(seed)
    logs = np.log(distance + _ZERO * max(float(np.median(distance)), 1e-12))
    true = _mean_log_ratio(logs, held_out[index])
    permuted = np.array(
        [_mean_log_ratio(logs, permute(rng)[index]) for _ in range(permutations)], np.float64
    )
    p = (1 + np.count_nonzero(permuted <= true)) / (1 + permutations)
    ratio = float(np.exp(true - permuted.mean()))
    n_held = int(held_out.sum())
    return Memorising(ratio, float(p), len(index), len(held_out) - n_held, n_held, permutations)


def _mean_log_ratio(logs: np.ndarray, held_out: np.ndarray) -> float:
    """Mean of log d_train - log d_held; both (N, k), nearest first."""
    last, rows = logs.shape[1] - 1, np.arange(len(logs))
    first_held = np.where(held_out.any(1), held_out.argmax(1), last)
    first_train = np.where(held_out.all(1), last, held_out.argmin(1))
    return float((logs[rows, first_train] - logs[rows, first_held]).mean())


class _Permuter:
    """Gives the label "held out" to whole groups at random, to as many images of a stratum as had it."""

    def __init__(
        self, held_out: np.ndarray, groups: Sequence[str] | None, strata: Sequence[str] | None
    ) -> None:
        count = len(held_out)
        stratum = np.unique(np.zeros(count) if strata is None else strata, return_inverse=True)[1]
        group = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)[1]
        # a group that is in two strata counts as one in each
        units, self.unit = np.unique(
            np.stack([stratum, group]), axis=1, return_inverse=True
        )  # (2, U), (M,)
        self.unit = self.unit.reshape(-1)
        self.stratum, self.size = units[0], np.bincount(self.unit)
        self.wanted = np.bincount(stratum, held_out)
        self.before = np.concatenate([[0], np.cumsum(np.bincount(stratum))[:-1]])

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """(M,) bool."""
        order = np.lexsort((rng.random(len(self.size)), self.stratum))
        stratum, size = self.stratum[order], self.size[order]
        taken = np.cumsum(size) - self.before[stratum] - size / 2
        held = np.empty(len(size), bool)
        held[order] = taken < self.wanted[stratum]
        return held[self.unit]
