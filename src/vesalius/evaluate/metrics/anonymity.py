"""Does a set single people out, link their images, or tell something of them? Beside held-out patients.

The three questions of data protection (EDPB Opinion 28/2024; the ICO's guidance of 2025), each as the
attack's gain on training patients over held-out ones (`statistics.anonymity`), by features of images.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.attacked import PatientPairs, pair_patients
from vesalius.evaluate.metrics.base import Case, Figures, Metric, Question, Result, Sentence, span
from vesalius.evaluate.metrics.spaces import unit
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.evaluate.sets import ComparedSet
from vesalius.statistics.anonymity import LEAST, Rates, closest, nearest, risk, singling_out
from vesalius.statistics.figure import Figure, Measured, select

NAMES = {
    "singling_out": "Singling out: gain over held-out patients",
    "linkability": "Linkability: gain over held-out patients",
    "inference": "Inference: gain over held-out patients",
}
_DOES = {
    "singling_out": "picks out one training patient",
    "linkability": "links two images of a training patient",
    "inference": "tells the class of a training patient",
}


def measure(case: Case) -> Result:
    """The three risks in each space of features."""
    result = Result()
    if not case.divided:
        why = "needs images that the model learned from and others that it did not"
        result.leave_out("anonymity", "singling_out", why)
        return result
    train, held_out = case.references[TRAIN], case.references[HELD_OUT]
    pairs = pair_patients(train, held_out, case.seed)
    if len(pairs) < LEAST:
        why = (
            f"{len(pairs)} pairs of a training and a held-out patient of the same class, source and "
            f"number of images: {LEAST} are needed"
        )
        result.leave_out("anonymity", "singling_out", why)
        return result
    for name in case.comparable:
        for risk_name in NAMES:
            try:
                figure = _risk(risk_name, case, name, pairs)
            except VesaliusError as error:
                result.leave_out("anonymity", risk_name, str(error), extractor=name)
                continue
            where = {"extractor": name, "reference": f"{TRAIN} - {HELD_OUT}"}
            result.add("anonymity", [figure], **where)
    return result


def _risk(risk_name: str, case: Case, extractor: str, pairs: PatientPairs) -> Figure:
    fake = unit(case.fake.features[extractor].astype(float))
    sides = [
        (one, unit(one.features[extractor].astype(float)), rows)
        for one, rows in (
            (case.references[TRAIN], pairs.members),
            (case.references[HELD_OUT], pairs.others),
        )
    ]
    if risk_name == "singling_out":
        train, control = (nearest(fake, x, rows) for _, x, rows in sides)
        return singling_out(train, control, case.seed)
    attack = _links if risk_name == "linkability" else _infers
    rates = Rates(*(attack(case.fake, fake, *side) for side in sides))
    return risk(risk_name, rates)


def _links(
    made: ComparedSet,
    fake: np.ndarray,
    one: ComparedSet,
    x: np.ndarray,
    people: Sequence[list[int]],
) -> np.ndarray:
    """Of each patient with several images, whether the first two share their nearest synthetic one."""
    several = [rows[:2] for rows in people if len(rows) > 1]
    if len(several) < LEAST:
        raise VesaliusError(
            f"{len(several)} pairs of patients with two images or more: linking needs {LEAST}"
        )
    first, second = (closest(fake, x[[rows[k] for rows in several]]) for k in range(2))
    return (first == second).astype(float)


def _infers(
    made: ComparedSet,
    fake: np.ndarray,
    one: ComparedSet,
    x: np.ndarray,
    people: Sequence[list[int]],
) -> np.ndarray:
    """Of each patient, the share of images whose nearest synthetic image has their class."""
    labels = np.array([made.labels[k] for k in range(len(made))])
    if len({*labels.tolist()} - {""}) < 2:
        raise VesaliusError("the synthetic images are of one class: there is nothing to infer")
    rows = [row for own in people for row in own]
    guessed = labels[closest(fake, x[rows])]
    right = dict(zip(rows, guessed == np.array([one.labels[row] for row in rows]), strict=True))
    return np.array([np.mean([right[row] for row in own]) for own in people])


def _measured(figures: Figures) -> list[Measured]:
    return [
        f for f in select(figures, part="anonymity") if f.value is not None and f.low is not None
    ]


def _sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    for figure in _measured(figures):
        gained = (figure.low or 0.0) > 0
        text = f"The set {_DOES[figure.metric]} more often than a held-out one"
        if not gained:
            text = (
                f"Nothing shows that the set {_DOES[figure.metric]} more often than a held-out one"
            )
        yield (
            "bad" if gained else "good",
            f"{text}: gain {figure.value:.2f} ({span(figure)}) by {figure.extractor}, {figure.note}.",
        )


def _answer(figures: Figures, _reference: str) -> str:
    found = _measured(figures)
    if not found:
        return ""
    bad = sorted({f.metric.replace("_", " ") for f in found if (f.low or 0.0) > 0})
    if bad:
        return f"more than to held-out patients, by {', '.join(bad)}"
    worst = max(found, key=lambda f: f.value or 0.0)
    return (
        f"no more than to held-out patients; the largest gain is {worst.value:.2f} ({span(worst)})"
    )


METRIC = Metric(
    measure,
    NAMES,
    (Question("Does the set point to single patients?", _sentences, _answer, of_training=True),),
)
