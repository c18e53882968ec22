"""Are synthetic images nearer to what was trained on than to new images, as a whole or in a few?

The tests are those of `vesalius.statistics.two_sample`, on the distances that `copies` has found in each
space: the distance ratio asks about the set as a whole, the memorised tail about a few images of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vesalius.evaluate.metrics.base import Figures, P, Question, Result, Sentence
from vesalius.evaluate.metrics.spaces import Space
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.images.nearness import Neighbours, neighbours
from vesalius.images.training_index import ImageIndex
from vesalius.statistics.figure import Figure, Measured, select
from vesalius.statistics.share import Share
from vesalius.statistics.two_sample import (
    PERMUTATIONS,
    Memorising,
    Tail,
    log_ratio,
    memorising_test,
    tail_test,
)

CROWD = 50  # neighbours: Carlini et al. 2023
RATIO, TAIL = "distance ratio", "memorised tail"


@dataclass(frozen=True)
class Comparison:
    """Training and held-out images, and how they are held against each other.

    `repeated` (H,) are held-out images that are duplicates of training ones: no new images.
    """

    training: ImageIndex
    held_out: ImageIndex
    repeated: np.ndarray
    permutations: int = PERMUTATIONS
    seed: int = 0
    device: str = "cpu"


def test_space(
    space: Space, near: Neighbours, real: Neighbours, among: Comparison
) -> tuple[Memorising, Tail | None]:
    """Both tests in a space; `near` and `real` are the nearest training images of synthetic and held-out ones."""
    new = neighbours(space.synthetic, space.held_out[0], CROWD, among.device)
    return _whole_set(near, new, among), _tail_of_set(space, near, new, real, among)


def _whole_set(near: Neighbours, new: Neighbours, among: Comparison) -> Memorising:
    """The nearest of training and held-out images together, and the test on them."""
    training, held_out = among.training, among.held_out
    index = np.concatenate([near.index, new.index + len(training)], axis=1)
    distance = np.concatenate([near.distance, new.distance], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    is_held_out = np.arange(len(training) + len(held_out)) >= len(training)
    return memorising_test(
        np.take_along_axis(index, order, 1),
        np.take_along_axis(distance, order, 1),
        is_held_out,
        groups=[*training.groups, *held_out.groups],
        strata=[*training.sources, *held_out.sources],
        permutations=among.permutations,
        seed=among.seed,
    )


def _tail_of_set(
    space: Space, near: Neighbours, new: Neighbours, real: Neighbours, among: Comparison
) -> Tail | None:
    """How lopsided synthetic images are, beside held-out ones that repeat no training image."""
    held_out = among.held_out
    others = neighbours(space.held_out, space.held_out[0], CROWD, among.device)
    groups, sources = np.array(held_out.groups), np.array(among.training.sources)
    apart = others.index != np.arange(len(held_out))[:, None]
    apart &= (groups[others.index] != groups[:, None]) | (groups[others.index] == "")
    away = np.where(apart, others.distance, np.inf).min(axis=1)
    honest = np.isfinite(away) & ~among.repeated
    return tail_test(
        log_ratio(near.distance[:, 0], new.distance[:, 0]),
        log_ratio(real.distance[honest, 0], away[honest]),
        (sources[near.index[:, 0]].tolist(), sources[real.index[honest, 0]].tolist()),
        permutations=among.permutations,
        seed=among.seed,
    )


def add_figures(result: Result, space: str, ratio: Memorising | None, tail: Tail | None) -> None:
    """What the tests found in a space, as figures."""
    if ratio:
        figure = Figure(
            RATIO, ratio.ratio, n=ratio.n, n_real=ratio.n_train, floor=1.0,
            note="1 is no memorising, less is more; p is by permuting the labels",
            details={"p": ratio.p},
        )  # fmt: skip
        where = {"extractor": space, "reference": f"{TRAIN} / {HELD_OUT}"}
        result.add("memorising", [figure], **where)
    if tail:
        low, high = Share(round(tail.share * tail.n), tail.n).interval
        figure = Figure(
            TAIL, tail.share, low, high, n=tail.n, n_real=tail.n_honest,
            floor=tail.honest, floor_n=tail.n_honest, at_floor_n=tail.share,
            note="share among the 5 % that are most lopsided towards training images; p is that of "
            "their being as deep among them by chance",
            details={"p": tail.p},
        )  # fmt: skip
        result.add("memorising", [figure], extractor=space, reference=TRAIN)


def _tested(figures: Figures) -> list[Measured]:
    every = [*select(figures, metric=RATIO), *select(figures, metric=TAIL)]
    return [f for f in every if f.value is not None]


def _sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    every = _tested(figures)
    level = P / max(1, len(every))
    found = [f for f in every if (p := f.details.get("p")) is not None and p <= level]
    if nearer := select(found, metric=RATIO):
        ratios = ", ".join(f"{f.extractor} {f.value:.2f}" for f in nearer)
        yield "bad", f"The images are nearer to what was trained on than to new images ({ratios})."
    if some := select(found, metric=TAIL):
        shares = ", ".join(f"{f.extractor} {f.value:.0%} and {f.floor:.0%}" for f in some)
        yield (
            "bad",
            "Some images are far nearer to one training image than to any new one: more of them than "
            f"of real new images (share among the most lopsided, of both: {shares}).",
        )
    if every and not found:
        yield (
            "good",
            "Nothing shows that the images, as a whole or a few of them, are nearer to what was trained on "
            "than to new images.",
        )


def _answer(figures: Figures, _reference: str) -> str:
    p = [p for f in _tested(figures) if (p := f.details.get("p")) is not None]
    if not p:
        return ""
    found = "yes" if min(p) <= P / len(p) else "nothing found"
    return f"{found}: the lowest p of {len(p)} tests is {min(p):.3f}"


NAMES = {
    RATIO: "Distance to trained / to held-out images",
    TAIL: "Among the images most lopsided to training ones",
}
QUESTION = Question(
    "Are they nearer to training images than to new ones?", _sentences, _answer, of_training=True
)
