"""How good a classifier is on a test set: ranking, decisions and calibration, for three tasks.

    binary       two classes that exclude each other; AUROC, AUPR and ECE are of the second
    multi-class  more of them; AUROC, AUPR and ECE are one class against the rest, then the mean
    multi-label  findings, any number of them in one image; every score is the mean over findings

Decisions are the most probable class, or for findings a probability of at least 0.5. The mean over
classes is the macro average: a rare class counts as much as a common one. A class that the test
images do not show (or that all of them show) has no score; it is left out of the means.

Every score takes weights over the images, one row a replicate, so that bootstrap and permutation
cost one sort of the predictions and no more.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.roc import group_codes, roc

BINS = 15  # of equal mass, for the calibration error
_TINY = np.finfo(float).eps  # the least probability that the log loss sees, as in scikit-learn


@dataclass(frozen=True)
class Truth:
    """The truth about each test image; made by `truth_of`.

    A binary task has two columns, of which the second is the positive class.
    """

    kind: Literal["binary", "multi-class", "multi-label"]
    positive: np.ndarray  # (N, C) bool
    classes: tuple[str, ...]
    groups: np.ndarray  # (N,) numbers of patients or lesions
    folds: np.ndarray  # (N,) which fold's classifiers saw the image as a test image

    def __len__(self) -> int:
        return len(self.positive)

    @property
    def scored(self) -> list[int]:
        """The columns that are ranked: of a binary task the positive class alone."""
        return [1] if self.kind == "binary" else list(range(len(self.classes)))

    def rows(self, rows: np.ndarray) -> "Truth":
        """The same of some images: indices or bool."""
        groups, folds = self.groups[rows], self.folds[rows]
        return replace(self, positive=self.positive[rows], groups=groups, folds=folds)

    def column(self, name: str) -> int:
        """The column of a class. Raises VesaliusError where it is unknown."""
        if name not in self.classes:
            raise VesaliusError(f"no class {name!r} here: {', '.join(self.classes)}")
        return self.classes.index(name)


def truth_of(
    labels: np.ndarray,
    classes: Sequence[str] | None = None,
    groups: Sequence[Hashable] | None = None,
    folds: np.ndarray | None = None,
) -> Truth:
    """Labels as class numbers (N,) from 0, or as findings (N, C) of zeros and ones.

    `groups` names each image's patient; none, or an empty one, is a group of its own. With `folds`
    (N,), scores are taken within each fold and averaged: predictions of two classifiers have no
    common scale, so they are never ranked together.
    Raises VesaliusError for labels without a class and for a group on two sides.
    """
    labels = np.asarray(labels)
    if not len(labels) or labels.ndim > 2:
        raise VesaliusError(f"labels are (N,) or (N, C) with an image, not {labels.shape}")
    if labels.ndim == 2:
        positive, kind = labels.astype(bool), "multi-label"
    else:
        count = len(classes) if classes is not None else max(2, int(labels.max()) + 1)
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= count:
            raise VesaliusError(f"labels are whole numbers from 0 to {count - 1}, one a class")
        positive = labels[:, None] == np.arange(count)
        kind = "binary" if count == 2 else "multi-class"
    names = tuple(classes) if classes is not None else tuple(map(str, range(positive.shape[1])))
    if len(names) != positive.shape[1] or (kind != "multi-label" and len(names) < 2):
        raise VesaliusError(f"{len(names)} class names for {positive.shape[1]} classes")
    codes = group_codes(groups, len(positive))
    parts = np.zeros(len(positive), int) if folds is None else np.asarray(folds, int)
    if parts.shape != codes.shape:
        raise VesaliusError(f"{len(parts)} fold numbers for {len(codes)} images")
    if len(np.unique(np.stack([codes, parts]), axis=1).T) > len(np.unique(codes)):
        raise VesaliusError("a group is in two folds: divide the folds by group")
    return Truth(kind, positive, names, codes, parts)


def predictions(truth: Truth, probabilities: np.ndarray) -> np.ndarray:
    """Probabilities as (S, N, C), one slice a seed, from (N,), (N, C) or (S, N, C).

    For a binary task those of the positive class alone, (N,), (N, 1) or (S, N, 1), will do.
    Raises VesaliusError where they do not fit the labels or are no probabilities.
    """
    p = np.asarray(probabilities, float)
    p = p[:, None] if p.ndim == 1 else p
    p = p[None] if p.ndim == 2 else p
    if truth.kind == "binary" and p.shape[-1] == 1:
        p = np.concatenate([1 - p, p], axis=-1)
    if p.ndim != 3 or not len(p) or p.shape[1:] != truth.positive.shape:
        raise VesaliusError(
            f"probabilities of {len(truth)} images and {len(truth.classes)} classes are needed, "
            f"not {np.shape(probabilities)}"
        )
    if not np.isfinite(p).all() or p.min() < 0 or p.max() > 1 + 1e-6:
        raise VesaliusError("probabilities are from 0 to 1: give softmax or sigmoid, not logits")
    if truth.kind != "multi-label" and not np.allclose(p.sum(-1), 1, atol=1e-3):
        raise VesaliusError("the probabilities of an image's classes must add up to 1")
    return p


def _auroc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return roc(p, y, w).area


def _aupr(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Average precision: sum of precision times the step in recall, no interpolation."""
    curve = roc(p, y, w)
    found = curve.true_positives * (w @ y)[:, None]
    alarms = curve.false_positives * (w @ ~y)[:, None]
    precision = found / np.maximum(found + alarms, _TINY)
    return (np.diff(curve.true_positives) * precision[:, 1:]).sum(-1)


def _recall(y: np.ndarray, said: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (w @ (said & y)) / (w @ y)


def _f1(y: np.ndarray, said: np.ndarray, w: np.ndarray) -> np.ndarray:
    return 2 * (w @ (said & y)) / (w @ said + w @ y)


def _balanced(y: np.ndarray, said: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (_recall(y, said, w) + _recall(~y, ~said, w)) / 2


def _ece(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """|mean probability - frequency| by bins of equally many images; equal ones stay together.

    The bins are those of the unweighted images. Of few images it is above zero by chance.
    """
    smaller = np.searchsorted(np.sort(p), p)
    inside = (smaller * BINS // len(p))[:, None] == np.arange(BINS)
    return np.abs(w @ (inside * (p - y)[:, None])).sum(-1) / w.sum(-1)


def _brier(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return w @ (p - y) ** 2 / w.sum(-1)


Column = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # (N,), (N,), (R, N) -> (R,)
RANKED: Mapping[str, Column] = {"auroc": _auroc, "aupr": _aupr, "ece": _ece, "brier": _brier}
DECIDED: Mapping[str, Column] = {"recall": _recall, "f1": _f1, "balanced_accuracy": _balanced}
NEED_BOTH = ("auroc", "aupr", "balanced_accuracy")  # positives and negatives
OF_CLASS = (*RANKED, *DECIDED)
OVERALL = (
    *("auroc", "aupr", "accuracy", "balanced_accuracy", "macro_f1"),
    *("ece", "brier", "log_loss"),
)
LOWER_IS_BETTER = frozenset({"ece", "brier", "log_loss"})
MEANS_OVER_IMAGES = frozenset({"accuracy", *LOWER_IS_BETTER})  # each image counts the same


def decisions(truth: Truth, p: np.ndarray) -> np.ndarray:
    """What is said to be so, bool (..., N, C), of probabilities (..., N, C)."""
    if truth.kind == "multi-label":
        return p >= 0.5
    return p.argmax(-1)[..., None] == np.arange(p.shape[-1])


def of_column(name: str, truth: Truth, p: np.ndarray, w: np.ndarray, column: int) -> np.ndarray:
    """One score of one class against the rest, (R,); NaN where the images do not allow it."""
    y = truth.positive[:, column]
    if not y.any() or (name in NEED_BOTH and y.all()):
        return np.full(len(w), np.nan)
    if name in RANKED:
        return RANKED[name](y, p[:, column], w)
    return DECIDED[name](y, decisions(truth, p)[:, column], w)


def _mean(name: str, truth: Truth, p: np.ndarray, w: np.ndarray, columns: list[int]) -> np.ndarray:
    """The mean over the classes that these images, not this replicate, allow."""
    found = [of_column(name, truth, p, w, column) for column in columns]
    found = [each for each in found if not np.isnan(each).all()]
    return np.mean(found, axis=0) if found else np.full(len(w), np.nan)


def _overall(name: str, truth: Truth, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    y, many = truth.positive, truth.kind == "multi-label"
    every = list(range(len(truth.classes)))
    if name in ("auroc", "aupr"):
        return _mean(name, truth, p, w, truth.scored)
    if name == "balanced_accuracy":  # of classes that exclude each other: the mean recall
        return _mean(name if many else "recall", truth, p, w, every)
    if name == "macro_f1":
        return _mean("f1", truth, p, w, every)
    total = w.sum(-1)
    if name == "accuracy":
        right = decisions(truth, p) == y
        return w @ (right.mean(-1) if many else right.all(-1)) / total
    if name == "brier":  # as scikit-learn: the sum over classes, half of it for two
        squares = (p - y) ** 2
        return w @ (squares.sum(-1) if truth.kind == "multi-class" else squares.mean(-1)) / total
    if name == "log_loss":
        likely = np.clip(np.where(y, p, 1 - p) if many else p, _TINY, 1 - _TINY)
        surprise = -np.log(likely)
        return w @ (surprise.mean(-1) if many else (surprise * y).sum(-1)) / total
    if truth.kind == "multi-class":  # the most probable class: is it as often right as it says?
        return _ece(decisions(truth, p)[np.arange(len(p)), y.argmax(-1)], p.max(-1), w)
    return np.mean([_ece(y[:, c], p[:, c], w) for c in truth.scored], axis=0)


def score(
    name: str, truth: Truth, p: np.ndarray, w: np.ndarray | None = None, of: str | None = None
) -> np.ndarray:
    """The score `name` of one model, (R,): one value a row of the weights `w` (R, N).

    `p` (N, C) as `predictions` gives them. Without weights R is 1. `of` asks for one class against
    the rest (`OF_CLASS`), else it is a score of the whole task (`OVERALL`). The mean over folds; NaN
    where a fold has no value.
    Raises VesaliusError for a score or class that is unknown.
    """
    if name not in (known := OVERALL if of is None else OF_CLASS):
        raise VesaliusError(f"no score {name!r} here: {', '.join(known)}")
    w = np.ones((1, len(truth))) if w is None else np.asarray(w, float)
    found: list[np.ndarray] = []
    for fold in np.unique(truth.folds):
        inside = truth.folds == fold
        part = (truth.rows(inside), p[inside], w[:, inside])
        with np.errstate(invalid="ignore"):  # a replicate may lack a class: it is NaN then
            found.append(
                _overall(name, *part) if of is None else of_column(name, *part, truth.column(of))
            )
    return np.mean(found, axis=0)


def by_seed(name: str, truth: Truth, p: np.ndarray, of: str | None = None) -> np.ndarray:
    """The score of each seed (S,) of predictions (S, N, C)."""
    return np.array([score(name, truth, each, of=of)[0] for each in p])
