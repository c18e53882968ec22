"""Several readers judge several cases: a figure over readers and cases, with its interval.

Decisions of several readers on the same cases are not independent: a hard case is hard for all, and a
good reader is good throughout. A standard error that takes them for independent is far too small.

Each reader has an estimate t_j. With V the mean variance of an estimate over cases and Cov2 the mean
covariance of two readers' estimates (the cases are the same),

    three readers or more, readers and cases random (Obuchowski and Rockette 1995; Hillis 2007, 2014):
        SE^2 = [MS(R) + r max(Cov2, 0)] / r,    MS(R) = sum_j (t_j - t)^2 / (r - 1)
        df   = [MS(R) + r max(Cov2, 0)]^2 / [MS(R)^2 / (r - 1)]
    fewer, or on request, these readers only, cases random:
        SE^2 = [V + (r - 1) Cov2] / r,    normal

Every estimate here comes with what each case adds to its error ("parts", whose products add up to the
covariance: DeLong's components of an AUC, by arm the deviations of a mean). So the difference of two
estimates is the difference of their parts, and the test of two modalities (F = t^2) is that of one.

Cases that a reader did not judge: each reader's estimate is over that reader's own cases, by arm, with
the weights of the whole design, and readers covary by the cases that both judged. Every reader counts
the same. That is right if it is chance which cases are missing, and `notes` says that some are.
"""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.intervals import LEVEL
from vesalius.statistics.paired import influence, student_p, student_quantile
from vesalius.statistics.share import exact_interval

Scope = Literal["readers and cases", "these readers only"]
LEAST_READERS = 3  # of fewer, nothing follows for readers in general


@dataclass(frozen=True)
class Readings:
    """What J readers answered on N cases, and which cases are positive (the arm)."""

    answers: np.ndarray  # (J, N); NaN where a reader gave no answer
    positive: np.ndarray  # (N,) bool
    readers: tuple[str, ...] = ()  # names; without, "1", "2", ...

    def __post_init__(self) -> None:
        answers = np.asarray(self.answers, float)
        positive = np.asarray(self.positive, bool)
        if answers.ndim != 2 or positive.shape != answers.shape[1:]:
            raise VesaliusError(
                f"answers are readers x cases, with one arm a case: not {answers.shape} "
                f"and {positive.shape}"
            )
        if np.isinf(answers).any():
            raise VesaliusError("an answer is infinite")
        names = self.readers or tuple(str(k + 1) for k in range(len(answers)))
        if len(names) != len(answers):
            raise VesaliusError(f"{len(names)} names for {len(answers)} readers")
        for name, value in (("answers", answers), ("positive", positive), ("readers", names)):
            object.__setattr__(self, name, value)

    def decisions(self, least: float) -> "Readings":
        """Ones where an answer is `least` or more, zeros where it is less."""
        answered = np.where(np.isnan(self.answers), np.nan, self.answers >= least)
        return replace(self, answers=answered)

    def correct(self, least: float) -> "Readings":
        """Ones where an answer of `least` or more meets a positive, or a lower one a negative."""
        said = self.decisions(least).answers
        return replace(self, answers=np.where(self.positive, said, 1 - said))


def readings(rows: Iterable[tuple[str, Hashable, bool, float]]) -> Readings:
    """From (reader, case, positive, answer), in any order; what no row holds is missing.

    Raises VesaliusError for two answers of a reader to one case (repeats are another question) and for
    a case that is positive in one row and negative in another.
    """
    answers: dict[tuple[str, Hashable], float] = {}
    arms: dict[Hashable, bool] = {}
    for reader, case, positive, answer in rows:
        if (reader, case) in answers:
            raise VesaliusError(f"reader {reader} has two answers to case {case}: keep one")
        if arms.setdefault(case, positive) != positive:
            raise VesaliusError(f"case {case} is positive in one row and negative in another")
        answers[reader, case] = answer
    names = tuple(dict.fromkeys(reader for reader, _ in answers))
    table = np.full((len(names), len(arms)), math.nan)
    row, column = ({key: k for k, key in enumerate(keys)} for keys in (names, arms))
    for (reader, case), answer in answers.items():
        table[row[reader], column[case]] = answer
    return Readings(table, np.array([*arms.values()]), names)


@dataclass(frozen=True)
class ByReader:
    """A figure of each of J readers, NaN where a reader judged too few cases for it."""

    readers: tuple[str, ...]
    values: np.ndarray  # (J,)
    parts: np.ndarray  # (J, M), M >= N: parts @ parts.T are the estimates' covariances
    judged: np.ndarray  # (J, N) bool
    used: np.ndarray  # (N,) bool: the cases that the figure is of, for a reader who judged all
    trials: int  # cases of the smallest arm it is of
    bounds: tuple[float, float] = (0.0, 1.0)

    def __sub__(self, other: "ByReader") -> "ByReader":
        """The difference, of the same readers on the same list of cases."""
        if self.readers != other.readers or self.parts.shape != other.parts.shape:
            raise VesaliusError("a difference needs the same readers and the same list of cases")
        (low, high), (least, most) = self.bounds, other.bounds
        return ByReader(
            self.readers,
            self.values - other.values,
            self.parts - other.parts,
            (self.judged | ~self.used) & (other.judged | ~other.used),
            self.used | other.used,
            min(self.trials, other.trials),
            (low - most, high - least),
        )

    @property
    def errors(self) -> np.ndarray:
        """The standard error of each reader's figure, (J,)."""
        return np.sqrt((self.parts**2).sum(1))


def auc(answers: Readings, *, jackknife: bool = False) -> ByReader:
    """Each reader's area under the ROC curve, with DeLong's covariances or the jackknife's."""
    seen = ~np.isnan(answers.answers)
    enough = _enough(answers, (1.0, 1.0))
    values, parts = np.full(len(seen), np.nan), np.zeros(seen.shape)
    for j in np.flatnonzero(enough):
        of = answers.answers[j, seen[j]]
        values[j], parts[j, seen[j]] = influence(of, answers.positive[seen[j]])
    return _by_reader(answers, values, parts, (1.0, 1.0), (0.0, 1.0), jackknife)


def means(
    answers: Readings,
    weights: tuple[float, float] | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    jackknife: bool = False,
) -> ByReader:
    """Each reader's mean of 0/1 answers (a proportion), or of ratings within `bounds`.

        t = sum over arms of w (mean of the arm),  cov = sum over arms of w^2 cov(answers) / n

    `weights` are those of (negatives, positives); without, their shares of all cases. Of answers that
    are right or wrong, (0, 1) gives the sensitivity and (1, 0) the specificity.
    """
    share = float(answers.positive.mean())
    weights = weights or (1 - share, share)
    enough = _enough(answers, weights)
    values, parts = np.where(enough, 0.0, np.nan), np.zeros(answers.answers.shape)
    for arm, weight in zip((False, True), weights, strict=True):
        if not weight:
            continue
        inside = ~np.isnan(answers.answers) & (answers.positive == arm) & enough[:, None]
        count = np.maximum(inside.sum(1), 2)[:, None]
        mean = np.where(inside, answers.answers, 0).sum(1, keepdims=True) / count
        values += weight * np.where(enough, mean[:, 0], np.nan)
        apart = weight * (answers.answers - mean) / np.sqrt(count * (count - 1))
        parts = np.where(inside, apart, parts)
    return _by_reader(answers, values, parts, weights, bounds, jackknife)


def _enough(answers: Readings, weights: tuple[float, float]) -> np.ndarray:
    """Which readers (J,) judged at least two cases of each arm that has a weight."""
    seen = ~np.isnan(answers.answers)
    arms = [seen[:, answers.positive == arm].sum(1) for arm in (False, True)]
    return np.all([n >= 2 for n, weight in zip(arms, weights, strict=True) if weight], axis=0)


def _by_reader(
    answers: Readings,
    values: np.ndarray,
    parts: np.ndarray,
    weights: tuple[float, float],
    bounds: tuple[float, float],
    jackknife: bool,
) -> ByReader:
    used = np.where(answers.positive, weights[1], weights[0]) != 0
    seen = ~np.isnan(answers.answers)
    trials: list[int] = []
    for arm, weight in zip((False, True), weights, strict=True):
        if not weight:
            continue
        inside = seen & (answers.positive == arm)
        count = inside.sum(1, keepdims=True)
        trials.append(int(count[np.isfinite(values)].min(initial=inside.shape[1])))
        if jackknife:  # a case left out moves the estimate by n / (n - 1) of its part
            every = seen.sum(1, keepdims=True)
            factor = np.sqrt((every - 1) / every * count / np.maximum(count - 1, 1))
            parts = np.where(inside, parts * factor, parts)
    return ByReader(answers.readers, values, parts, seen, used, min(trials), bounds)


@dataclass(frozen=True)
class Estimate:
    """A figure over readers, or its difference, with all that its intervals and tests need.

    `low` and `high` are the 95 % interval, `by_reader` the figures that were averaged.
    """

    value: float
    se: float
    df: float  # infinite where the law is normal
    scope: Scope
    readers: int
    cases: int
    trials: int
    bounds: tuple[float, float]
    by_reader: dict[str, float]
    notes: tuple[str, ...] = ()
    least: tuple[float, float] = (0.0, math.inf)  # se and df of `cautious`

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.interval()[1]

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Low and high, inside of the figure's bounds.

        Where nothing varies at all (every answer right, say) the reach is the exact bound of as many
        independent trials as there are cases of the smallest arm.
        """
        least, most = self.bounds
        reach = student_quantile((1 + level) / 2, self.df) * self.se
        if self.se == 0:
            trials = max(1, self.trials)
            reach = (1 - exact_interval(trials, trials, level)[0]) * (most - least)
        return max(least, self.value - reach), min(most, self.value + reach)

    def cautious(self) -> "Estimate":
        """The same with an error that chance cannot make too small, to rest a claim of sameness on.

        MS(R) is, on average, the variance between readers plus V - Cov2, and so at least V - Cov2. Where
        it is less, readers are alike by chance, and the interval is short by chance. Here it is then
        V - Cov2: one is never surer of readers in general than of these readers.
        """
        se, df = self.least
        return replace(self, se=se, df=df) if se > self.se else self

    def p(self, null: float = 0.0) -> float:
        """Two-sided, that the figure is `null`; NaN where nothing varies."""
        return student_p((self.value - null) / self.se, self.df) if self.se else math.nan

    def p_above(self, null: float) -> float:
        """One-sided, that the figure is `null` or less; NaN where nothing varies."""
        two_sided = self.p(null)
        return two_sided / 2 if self.value > null else 1 - two_sided / 2

    def __repr__(self) -> str:
        return (
            f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}; {self.scope}: "
            f"{self.readers} x {self.cases})"
        )


def over_readers(figures: ByReader, scope: Scope | None = None) -> Estimate:
    """The mean over readers, for readers and cases in general or, on request, for these readers.

    Fewer than three readers are always "these readers only"; asking otherwise raises VesaliusError, as
    does a figure that no reader judged enough cases for. A reader who did not is left out, and `notes`
    says so, as it says where readers judged fewer cases than there are.
    """
    known = np.isfinite(figures.values)
    values, count = figures.values[known], int(known.sum())
    if not count:
        raise VesaliusError("no reader judged two cases of each arm: there is nothing to average")
    if scope == "readers and cases" and count < LEAST_READERS:
        raise VesaliusError(f"{count} readers say nothing about readers in general: it takes three")
    scope = scope or ("readers and cases" if count >= LEAST_READERS else "these readers only")
    covariance = figures.parts[known] @ figures.parts[known].T
    fixed = math.sqrt(max(0.0, float(covariance.mean()))), math.inf
    (se, df), least = fixed, fixed
    notes = _notes(figures, known)
    if scope == "readers and cases":
        own = float(np.trace(covariance)) / count
        apart = float(covariance.sum() - np.trace(covariance)) / (count * (count - 1))
        between = float(values.var(ddof=1))
        se, df = _random(between, apart, count)
        least = _random(max(between, own - apart), apart, count)
        if se == 0 < fixed[0]:
            se, df = fixed
            notes += ("readers are alike by chance: the interval is over cases alone",)
    return Estimate(
        float(values.mean()),
        se,
        df,
        scope,
        count,
        int(figures.used.sum()),
        figures.trials,
        figures.bounds,
        dict(zip(figures.readers, figures.values.tolist(), strict=True)),
        notes,
        least,
    )


def _random(between: float, covariance: float, count: int) -> tuple[float, float]:
    """Obuchowski-Rockette-Hillis: the standard error and its degrees of freedom."""
    total = between + count * max(0.0, covariance)
    freedom = total**2 * (count - 1) / between**2 if between > 0 else math.inf
    return math.sqrt(total / count), freedom


def _notes(figures: ByReader, known: np.ndarray) -> tuple[str, ...]:
    notes: list[str] = []
    if not known.all():
        out = [name for name, there in zip(figures.readers, known, strict=True) if not there]
        notes.append(f"left out, with fewer than two cases of an arm: {', '.join(out)}")
    judged, cases = figures.judged[known][:, figures.used].sum(1), int(figures.used.sum())
    if judged.min() < cases:
        notes.append(
            f"not all judged every case ({judged.min()} to {judged.max()} of {cases}): each reader's figure is of the own cases, which is right if it is "
            "chance which are missing"
        )
    return tuple(notes)
