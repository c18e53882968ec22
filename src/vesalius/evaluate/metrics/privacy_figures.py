"""The privacy part of an evaluation: copies of training images as figures, pairs and curves."""

from pathlib import Path
from typing import Any

from vesalius.errors import VesaliusError
from vesalius.evaluate.comparison import HELD_OUT, TRAIN, Side
from vesalius.evaluate.metrics.copies import Copies, Share
from vesalius.evaluate.metrics.privacy import Privacy, copies
from vesalius.evaluate.steps import Case
from vesalius.statistics.figure import Figure
from vesalius.statistics.record import Result, missing
from vesalius.statistics.two_sample import Tail

PAIRS = 12  # of a space that the document names


def privacy_step(case: Case, cache: Path | None = None, quantile: float = 0.01) -> Result:
    """Copies in every space over the whole training set, memorising, duplicates within the set."""
    train = case.references.get(TRAIN) or case.new[1]
    held_out = case.references.get(HELD_OUT) or train.take([], HELD_OUT)
    sides = (case.fake, train, held_out)
    features = {
        name: (case.fake.features[name], train.features[name], held_out.features[name])
        for name in case.extractors
    }
    with case.progress("privacy") as count:
        try:
            found = copies(
                *sides, features=features, quantile=quantile, cache=cache, device=case.device,
                seed=case.seed, on_progress=count,
            )  # fmt: skip
        except VesaliusError as error:
            return Result([missing("privacy", "copies", str(error), reference=TRAIN)])
    result = Result(details={"privacy": found.as_dict()}, notes=list(found.notes))
    for name, each in found.spaces.items():
        where = {"extractor": name, "reference": train.name}
        result.add("privacy", [_copied(each, found)], **where)
        if test := each.memorising:
            note = "1 is no memorising, less is more; p is that of dealing the labels out anew"
            figure = Figure("distance ratio", test.ratio, n=test.n, n_real=test.n_train, floor=1.0,
                            note=note, details={"p": test.p})  # fmt: skip
            result.add("memorising", [figure], extractor=name, reference=f"{TRAIN} / {HELD_OUT}")
        if tail := each.tail:
            result.add("memorising", [_tail(tail)], extractor=name, reference=TRAIN)
    result.add("privacy", [_shared("duplicates within", found.duplicated)])
    result.details["closest"] = {
        name: _closest(each, case.fake, train) for name, each in found.spaces.items()
    }
    return result


def _copied(each: Copies, found: Privacy) -> Figure:
    figure = _shared("copies", each.share, "; ".join(each.notes))
    floor = each.held_out
    return Figure(
        "copies", figure.value, figure.low, figure.high, n=found.n, n_real=found.n_train,
        floor=floor.value if floor else None, floor_n=floor.n if floor else 0,
        at_floor_n=figure.value if floor else None, note=figure.note,
    )  # fmt: skip


def _tail(tail: Tail) -> Figure:
    low, high = Share(round(tail.share * tail.n), tail.n).interval
    return Figure(
        "memorised tail", tail.share, low, high, n=tail.n, n_real=tail.n_honest,
        floor=tail.honest, floor_n=tail.n_honest, at_floor_n=tail.share,
        note="share among the 5 % that are most lopsided towards training images; p is that of "
        "their being as deep among them by chance",
        details={"p": tail.p},
    )  # fmt: skip


def _shared(name: str, share: Share, note: str = "") -> Figure:
    low, high = share.interval
    return Figure(name, share.value, low, high, n=share.n, note=note)


def _closest(each: Copies, fake: Side, train: Side) -> list[dict[str, Any]]:
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
