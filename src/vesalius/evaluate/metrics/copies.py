"""Are synthetic images near-copies of training images?

`nearest_training.find_copies` compares them. How many images of a set are near-copies is given with its
interval, beside the same figure of the held-out images themselves. No figure here proves that a set is
private.
"""

from collections.abc import Iterator
from typing import Any

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics import memorising
from vesalius.evaluate.metrics.base import Case, Figures, Metric, Question, Result, Sentence, span
from vesalius.evaluate.metrics.nearest_training import (
    ALARM,
    Copies,
    Options,
    SpaceCopies,
    find_copies,
)
from vesalius.evaluate.references import HELD_OUT, TRAIN
from vesalius.evaluate.sets import ComparedSet
from vesalius.statistics.figure import Figure, select

PAIRS = 12  # of a space that the document names
SHOWN = ("structure", "tiles")  # spaces that count for the sentences


def measure(case: Case) -> Result:
    """Near-copies in every space, whether training images were memorised, repeats in the set."""
    train = case.references.get(TRAIN) or case.new[1]
    held_out = case.references.get(HELD_OUT) or train.take([], HELD_OUT)
    sets = (case.fake, train, held_out)
    features = {
        name: (case.fake.features[name], train.features[name], held_out.features[name])
        for name in case.extractors
    }
    result = Result()
    options = Options(seed=case.seed, device=case.device)
    cache = case.store / "bank" if case.store else None
    with case.progress("near-copies") as count:
        try:
            found = find_copies(*sets, features, options, cache=cache, on_progress=count)
        except VesaliusError as error:
            result.leave_out("privacy", "copies", str(error), reference=TRAIN)
            return result
    result.details["privacy"] = found.as_dict()
    result.notes += found.notes
    for name, each in found.spaces.items():
        where = {"extractor": name, "reference": train.name}
        result.add("privacy", [_figure(each, found)], **where)
        memorising.add_figures(result, name, each.memorising, each.tail)
    result.add("privacy", [found.duplicated.figure("duplicates within")])
    result.details["closest"] = {
        name: _closest(each, case.fake, train) for name, each in found.spaces.items()
    }
    return result


def _figure(each: SpaceCopies, found: Copies) -> Figure:
    share, floor = each.share, each.held_out
    return share.figure(
        "copies", n=found.n, n_real=found.n_train,
        floor=floor.value if floor else None, floor_n=floor.n if floor else 0,
        at_floor_n=share.value if floor else None, note="; ".join(each.notes),
    )  # fmt: skip


def _closest(each: SpaceCopies, fake: ComparedSet, train: ComparedSet) -> list[dict[str, Any]]:
    """The pairs nearest to each other for their source, nearest first."""
    return [
        {
            "synthetic": mine,
            "synthetic_sha1": fake.survey.keys[mine],
            "training": theirs,
            "training_sha1": train.survey.keys[theirs],
            "distance": float(each.distance[mine]),
            "limit": float(each.limit[mine]),
            "flagged": bool(each.flagged[mine]),
        }
        for mine, theirs in each.closest(PAIRS)
    ]


def _sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    for figure in select(figures, metric="copies"):
        if figure.value is None or figure.low is None or figure.extractor not in SHOWN:
            continue
        count, floor = round(figure.value * figure.n), figure.floor
        beside = f"; of held-out real images {floor:.1%}" if floor is not None else ""
        text = (
            f"{count} of {figure.n} synthetic images ({span(figure, '.1%')}) are as near to a "
            f"training image, by {figure.extractor}, as only {ALARM:.0%} of new real images "
            f"are{beside}."
        )
        yield ("bad" if figure.low > max(ALARM, floor or 0.0) else "good"), text
    for figure in select(figures, metric="duplicates within"):
        if figure.value:
            count = round(figure.value * figure.n)
            yield "bad", f"{count} of {figure.n} synthetic images repeat another one of the set."


def _answer(figures: Figures, _reference: str) -> str:
    counts = [
        (round(f.value * f.n), f.n)
        for f in select(figures, metric="copies")
        if f.value is not None and f.extractor in SHOWN
    ]
    if not counts:
        return ""
    most, n = max(counts)
    return f"{most} of {n} are nearer to one than the limit, which 1 % of new real images reach"


METRIC = Metric(
    measure,
    {
        "copies": "Copies of training images",
        "duplicates within": "Duplicates within the set",
        **memorising.NAMES,
    },
    (
        Question("Are they copies of training images?", _sentences, _answer, of_training=True),
        memorising.QUESTION,
    ),
)
