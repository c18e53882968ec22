"""Does a model give away who was trained on? Membership inference, by patient.

A denoiser errs less on images that it has seen (Matsumoto et al. 2023, arXiv:2302.03262; Carlini et
al. 2023, arXiv:2301.13188, section 5). Some images are easy for any model: with a reference that never
saw them, such as the base model of an adapter, the score is by how much the error fell, which says
far more (difficulty calibration, Watson et al. 2022, arXiv:2111.08440). Who is attacked, and the
scores, stand in `attacked`.

It is a lower bound on what leaks: a stronger attack may find more.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.attacked import Attacked, attacked
from vesalius.evaluate.metrics.base import (
    Case,
    Figures,
    Kind,
    Metric,
    P,
    Question,
    Result,
    Sentence,
    span,
)
from vesalius.statistics.figure import Figure, select
from vesalius.statistics.logistic import cross_validated, logistic
from vesalius.statistics.roc import Detection, Roc, detection, roc

_LEAST_PAIRS = 16  # for the set-level test
_TURNS = 9999
_FOLDS = 5


def measure(case: Case) -> Result:
    """Can patients who were trained on be recognised by the denoising loss?"""
    result, model = Result(), case.models.generator
    if why := why_not(case):
        result.leave_out("membership", "auroc", why)
        return result
    assert model is not None
    try:
        seen = attacked(case, model.generator, model.base)
        of_loss = _of_loss(seen)
    except VesaliusError as error:
        result.leave_out("membership", "auroc", str(error))
        return result
    where = {"extractor": model.name}
    result.add("membership", [of_loss.detection.auroc, of_loss.detection.found], **where)
    result.add("membership", [_auroc("clid", seen.clid, seen.member)], **where)
    result.add("membership", set_test(seen, case.seed), **where)
    result.add("membership", calibration(seen, case.seed))
    result.details["membership"] = {
        "roc": of_loss.curve.points(),
        "calibrated_by_base_model": of_loss.calibrated,
        "pairs_of_patients": seen.pairs,
        "images_on_each_side": seen.images,
        "false_positive_rate": of_loss.detection.false_positive_rate,
    }
    result.notes += [of_loss.warning] if of_loss.warning else []
    return result


def why_not(case: Case) -> str:
    """Why no model can be attacked here; "" where one can."""
    if case.models.generator is None:
        return "no model was named: give --model"
    if not case.divided:
        return "needs images that the model learned from and others that it did not"
    return ""


def _of_loss(seen: Attacked) -> "Membership":
    member, base = seen.member, seen.base_errors
    known = None if base is None else (base[member], base[~member])
    return membership(seen.errors[member], seen.errors[~member], known)


def _auroc(name: str, scores: np.ndarray, member: np.ndarray) -> Figure:
    found = detection(scores, member).auroc
    return replace(found, name=name)


def set_test(seen: Attacked, seed: int = 0) -> list[Figure]:
    """Was this set as a whole trained on? One p-value, after CDI (Dubinski et al. 2024).

    A logistic regression learns from half of the pairs how losses at ten times and PIA's feature differ
    between the members and their partners; on the other half the mean difference is tested by turning
    pairs round at random. The same on the base model must find nothing.
    """
    figures = []
    for name, features in (("set_test", seen.features), ("set_test_of_base", seen.base_features)):
        if features is None:
            continue
        if seen.pairs < _LEAST_PAIRS:
            why = f"{seen.pairs} pairs of patients: a test on half of them needs {_LEAST_PAIRS}"
            figures.append(Figure(name, None, note=why))
            continue
        rng = np.random.default_rng(seed)
        learn = rng.permutation(seen.pairs) < seen.pairs // 2
        rows = learn[seen.pair]
        mean, scale = features[rows].mean(0), features[rows].std(0)
        x = (features - mean) / np.where(scale > 0, scale, np.inf)
        weights = logistic(x[rows], seen.member[rows])
        scores = x @ weights[:-1]
        fell = (scores[: seen.pairs] - scores[seen.pairs :])[~learn]
        p = _turned_round(fell, rng)
        figures.append(
            Figure(name, p, n=2 * int((~learn).sum()), details={"pairs": float(len(fell))})
        )
    return figures


def _turned_round(differences: np.ndarray, rng: np.random.Generator) -> float:
    """P of a mean as large where each difference has a random sign."""
    signs = rng.choice([-1.0, 1.0], (_TURNS, len(differences)))
    means = (signs * differences).mean(1)
    return float((1 + (means >= differences.mean() - 1e-15).sum()) / (_TURNS + 1))


def calibration(seen: Attacked, seed: int = 0) -> list[Figure]:
    """AUROC of a classifier that never sees the model, and of the attack on the base model alone."""
    rng = np.random.default_rng(seed)
    scores = cross_validated(seen.blind, seen.member, seen.pair, _FOLDS, rng)
    found = [_auroc("blind", scores, seen.member)]
    if seen.base_errors is not None:
        found.append(_auroc("base_model", -seen.base_errors.mean(1), seen.member))
    return found


def unfair_attacks(figures: Figures, part: str = "membership") -> list[str]:
    """Why figures of an attack say nothing of the model; empty where the two sides are alike.

    A blind classifier that does worse than guessing has learned chance, which is no difference.
    """
    said = []
    for figure in select(figures, part=part):
        low, high = figure.low, figure.high
        if low is None or high is None or figure.metric not in ("blind", "base_model"):
            continue
        if low > 0.5 or (high < 0.5 and figure.metric == "base_model"):
            who = "a classifier that never saw the model tells"
            if figure.metric == "base_model":
                who = "the base model, which saw neither, tells"
            said.append(
                f"{who} training from held-out patients with an AUROC of {figure.value:.2f} "
                f"({span(figure)}): they were not drawn alike, and no figure of membership or of the "
                "audit speaks of training alone"
            )
    return said


@dataclass(frozen=True)
class Membership:
    """What the attack finds: members are the positives, and 0.5 is what guessing scores."""

    detection: Detection
    curve: Roc
    calibrated: bool  # by a reference model
    warning: str = ""


def membership(
    members: np.ndarray,
    non_members: np.ndarray,
    reference: tuple[np.ndarray, np.ndarray] | None = None,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    *,
    false_positive_rate: float = 0.01,
) -> Membership:
    """Tell members from non-members by their `denoising_errors`, (N, T) and (M, T).

    `reference` are the errors of a model that saw neither, for the same images; `groups` their
    patients, for members and non-members, by which the intervals are drawn.
    Non-members must be like the members in all but having been seen: a held-out part of one split,
    no other data set. Fewer non-members than 1 / `false_positive_rate` cannot resolve that rate: the
    figure is then at no false positive at all, and `warning` says so.
    Raises VesaliusError for under two of either, and where model and reference do not differ.
    """
    sets = [np.asarray(errors, float) for errors in (members, non_members)]
    if min(map(len, sets)) < 2:
        raise VesaliusError(
            f"membership needs two members and two non-members, not {len(sets[0])} and {len(sets[1])}"
        )
    scores = -np.concatenate(sets).mean(1)
    if reference is not None:
        known = np.concatenate([np.asarray(errors, float) for errors in reference])
        if known.shape != (len(scores), sets[0].shape[1]):
            raise VesaliusError("the reference's errors are not of the same images and times")
        scores = known.mean(1) + scores
        if not scores.any():
            raise VesaliusError(
                "model and reference err alike on every image: has the adapter been applied?"
            )
    positive = np.arange(len(scores)) < len(sets[0])
    both, warnings = None, []
    if groups is not None:
        if shared := {*groups[0]} & {*groups[1]} - {None, ""}:
            warnings.append(
                f"{len(shared)} patients are on both sides: their other images are no strangers to "
                "the model, and the attack looks weaker than it is"
            )
        both = [(side, g or row) for side, part in enumerate(groups) for row, g in enumerate(part)]
    found = detection(scores, positive, both, false_positive_rate=false_positive_rate)
    needed = int(np.ceil(1 / false_positive_rate))
    if len(sets[1]) < needed:
        warnings.append(
            f"{len(sets[1])} non-members cannot show a false-positive rate of "
            f"{false_positive_rate:.0%}, which takes {needed}: what is found is found at none"
        )
    return Membership(found, roc(scores, positive), reference is not None, "; ".join(warnings))


def _sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    unfair = unfair_attacks(figures)
    for name, what in (("auroc", "by loss"), ("clid", "by what the caption helps")):
        for figure in select(figures, part="membership", metric=name):
            if figure.value is None or figure.low is None:
                continue
            text = (
                f"The model reveals whether a patient was trained on, {what}, with an AUROC of "
                f"{figure.value:.2f} ({span(figure)}); 0.5 is guessing."
            )
            for found in select(figures, part="membership", metric="found"):
                if found.value is not None and name == "auroc":
                    text += (
                        f" At 1 % false alarms {found.value:.1%} ({span(found, '.1%')}) of the "
                        "patients are found."
                    )
            yield _kind(figure.low > 0.5, unfair), text
    for figure in select(figures, part="membership", metric="set_test"):
        if figure.value is not None:
            text = "That these patients as a group were trained on "
            text += "shows" if figure.value <= P else "does not show"
            yield _kind(figure.value <= P, unfair), f"{text} (p = {figure.value:.4f})."
    for text in unfair:
        yield "unknown", f"Unfair: {text}."


def _kind(found: bool, unfair: list[str]) -> Kind:
    return "unknown" if unfair else "bad" if found else "good"


def _answer(figures: Figures, _reference: str) -> str:
    unfair = unfair_attacks(figures)
    for figure in select(figures, part="membership", metric="auroc"):
        if figure.value is not None:
            answer = f"AUROC {figure.value:.2f}; 0.5 is guessing"
            return f"unfair: {answer}, and so does it without the model" if unfair else answer
    return ""


METRIC = Metric(
    measure,
    {
        "found": "Members found at 1 % false alarms",
        "clid": "AUROC by what the caption helps (CLiD)",
        "set_test": "p that the set was not trained on",
        "set_test_of_base": "The same p, of the base model alone",
        "blind": "AUROC of a classifier without the model",
        "base_model": "AUROC of the attack on the base model",
    },
    (Question("Does the model reveal which patients it was trained on?", _sentences, _answer),),
    of_model=True,
)
