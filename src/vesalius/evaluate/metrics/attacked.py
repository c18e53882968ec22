"""Who is attacked, and with which scores: pairs of a patient who was trained on and one who was not.

Both patients of a pair are of one stratum (labels and source) and have as many images, so that nothing
but training should tell them apart. Two checks say whether that is so: a blind classifier that never
sees the model, and the same attack on the base model, which saw neither (Das et al. 2024,
arXiv:2406.16201: blind classifiers beat published attacks on all of eight sets). The scores of an
image, higher for members, are

    loss   by how much the denoising error is below that of the base model
    CLiD   by how much the own caption helps more than a reduced one and none
           (Zhai et al. 2024, arXiv:2405.20771), less what it helps the base model

and a patient's score is the mean over the images. A model that has learnt a word is asked with it
before each caption that does not hold it; the base model is asked by the captions alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.base import Case
from vesalius.evaluate.metrics.losses import denoising_errors, proximal_errors
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.evaluate.sets import ComparedSet, together
from vesalius.images.pixels import open_rgb, square
from vesalius.models.generator import Generator

MOST = 200  # images on each side of an attack
SET_TIMES = tuple(k / 10 + 0.05 for k in range(10))  # of the set-level test
_COMPONENTS = 8  # of features, for the blind classifier


@dataclass(frozen=True)
class PatientPairs:
    """Rows of the images of P patients who were trained on, and of their P partners."""

    members: list[list[int]]
    others: list[list[int]]

    def __len__(self) -> int:
        return len(self.members)

    def first(self, images: int) -> "PatientPairs":
        """The first pairs that have up to so many images on a side."""
        ends = np.cumsum([len(rows) for rows in self.members])
        kept = int(np.searchsorted(ends, images, side="right"))
        return PatientPairs(self.members[:kept], self.others[:kept])


def pair_patients(train: ComparedSet, held_out: ComparedSet, seed: int = 0) -> PatientPairs:
    """As many pairs as there are, in random order."""
    rng = np.random.default_rng(seed)
    sides = [_by_stratum(one) for one in (train, held_out)]
    pairs = []
    for stratum in sorted({*sides[0]} & {*sides[1]}):
        own, new = ([one[k] for k in rng.permutation(len(one))] for one in
                    (side[stratum] for side in sides))  # fmt: skip
        pairs += zip(own, new, strict=False)
    order = [pairs[k] for k in rng.permutation(len(pairs))]
    return PatientPairs([own for own, _ in order], [new for _, new in order])


def _by_stratum(one: ComparedSet) -> dict[tuple[str, ...], list[list[int]]]:
    """Each patient's rows, by labels, source and number of images."""
    patients: dict[str, list[int]] = {}
    for row, group in enumerate(one.groups):
        patients.setdefault(group, []).append(row)
    found: dict[tuple[str, ...], list[list[int]]] = {}
    for rows in patients.values():
        labels = sorted({one.labels[row] for row in rows})
        sources = sorted({one.columns["source"][row] for row in rows})
        key = ("|".join(labels), "|".join(sources), f"{len(rows):06}")
        found.setdefault(key, []).append(rows)
    return found


@dataclass(frozen=True)
class Attacked:
    """What was measured of each of 2 P patients: first the P members, then their partners."""

    pairs: int
    images: int  # on each side
    errors: np.ndarray  # (2 P, T) of the model
    base_errors: np.ndarray | None  # (2 P, T)
    clid: np.ndarray  # (2 P,)
    base_clid: np.ndarray | None
    features: np.ndarray  # (2 P, F) for the set-level test, of the model less those of the base
    base_features: np.ndarray | None
    blind: np.ndarray = field(repr=False)  # (2 P, D), of the images alone

    @property
    def member(self) -> np.ndarray:
        """(2 P,) bool."""
        return np.arange(2 * self.pairs) < self.pairs

    @property
    def pair(self) -> np.ndarray:
        """(2 P,) number of each patient's pair."""
        return np.tile(np.arange(self.pairs), 2)

    @property
    def loss(self) -> np.ndarray:
        """(2 P,) the loss score."""
        found = -self.errors.mean(1)
        return found if self.base_errors is None else found + self.base_errors.mean(1)


def attacked(case: Case, generator: Generator, base: Generator | None) -> Attacked:
    """Measured once for all parts of an evaluation that ask.

    Raises VesaliusError where there are no two pairs.
    """
    known = case.memo.get("attacked")
    if known is None:
        known = case.memo["attacked"] = _measured(case, generator, base)
    return known


def _measured(case: Case, generator: Generator, base: Generator | None) -> Attacked:
    train, held_out = case.references[TRAIN], case.references[HELD_OUT]
    pairs = pair_patients(train, held_out, case.seed).first(MOST)
    if len(pairs) < 2:
        raise VesaliusError(
            f"{len(pairs)} pairs of a training and a held-out patient of the same labels, source and "
            "number of images: an attack needs two at least"
        )
    own, new = ([row for rows in side for row in rows] for side in (pairs.members, pairs.others))
    both = together([train.take(own), held_out.take(new)], "attacked")
    sizes = [len(rows) for rows in (*pairs.members, *pairs.others)]
    patient = np.repeat(np.arange(len(sizes)), sizes)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.stack([values[patient == k].mean(0) for k in range(len(sizes))])

    words = case.models.generator.words if case.models.generator else ()
    of_model = _Scores.of(case, generator, both, words)
    of_base = _Scores.of(case, base, both) if base is not None else None
    features = mean(of_model.features - (of_base.features if of_base else 0))
    clid = mean(of_model.clid - (of_base.clid if of_base else 0))
    return Attacked(
        len(pairs),
        len(own),
        mean(of_model.errors),
        mean(of_base.errors) if of_base else None,
        clid,
        mean(of_base.clid) if of_base else None,
        features,
        mean(of_base.features) if of_base else None,
        mean(_blind(case, both)),
    )


@dataclass(frozen=True)
class _Scores:
    """Of each of N images by one model."""

    errors: np.ndarray  # (N, T)
    clid: np.ndarray  # (N,)
    features: np.ndarray  # (N, F)

    @classmethod
    def of(
        cls, case: Case, generator: Generator, images: ComparedSet, words: Sequence[str] = ()
    ) -> "_Scores":
        own = [worded(caption, words) for caption in images.columns["caption"]]
        asked = _Asked(case, generator, images)
        errors = asked(denoising_errors, own)
        plain = asked(denoising_errors, own, noises=1)
        less = [asked(denoising_errors, [change(c) for c in own], noises=1) for change in _CHANGES]
        clid = np.mean([each - plain for each in less], 0).mean(1)
        ten = asked(denoising_errors, own, times=SET_TIMES, noises=1)
        return cls(errors, clid, np.column_stack([ten, asked(proximal_errors, own)]))


@dataclass(frozen=True)
class _Asked:
    """Asks a model about the images under some captions."""

    case: Case
    generator: Generator
    images: ComparedSet

    def __call__(
        self, ask: Callable[..., np.ndarray], captions: Sequence[str], **how: object
    ) -> np.ndarray:
        size = min(self.generator.native_size)
        pixels = (
            square(open_rgb(self.images.encoded(row)), size) for row in range(len(self.images))
        )
        if ask is denoising_errors:
            how["seed"] = self.case.seed
        with self.case.progress("denoising loss") as count:
            return ask(self.generator, pixels, captions, on_image=count, **how)


def worded(caption: str, words: Sequence[str]) -> str:
    """A caption with the words before it that it does not hold, as in training."""
    return ", ".join(filter(None, [*(word for word in words if word not in caption), caption]))


def reduced(caption: str) -> str:
    """The first half of a caption's words."""
    words = caption.split()
    return " ".join(words[: len(words) // 2])


_CHANGES: tuple[Callable[[str], str], ...] = (reduced, lambda caption: "")


def _blind(case: Case, images: ComparedSet) -> np.ndarray:
    """(N, D) what can be known of an image without the model: file, brightness, main features."""
    sizes = np.array(images.survey.sizes, float)
    plain = []
    for row in range(len(images)):
        data = images.encoded(row)
        pixels = np.asarray(open_rgb(data), float)
        plain.append([np.log(len(data)), pixels.mean(), pixels.std()])
    words = [[len(caption)] for caption in images.columns["caption"]]
    columns = [sizes, np.array(plain), np.array(words, float)]
    for name in case.comparable[:1]:
        x = images.features[name].astype(float)
        x = x - x.mean(0)
        _, _, directions = np.linalg.svd(x, full_matrices=False)
        columns.append(x @ directions[:_COMPONENTS].T)
    return np.column_stack(columns)
