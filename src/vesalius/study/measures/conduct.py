"""How readers went about it, whatever the task: repeats, time, drift, agreement with each other."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from statistics import median

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.statistics.agreement import (
    Agreement,
    cohen,
    fleiss,
    gwet,
    krippendorff,
    table,
)
from vesalius.statistics.readers import ByReader, means, readings
from vesalius.study.judgements import RATED, Block, Judgement, by_reader
from vesalius.study.measures.groups import Answer, measure, rows
from vesalius.study.measures.words import share, with_interval
from vesalius.study.results import Place, Sentence, StudyFigure, missing


def conduct(
    block: Block, coded: Answer, good: Answer, span: float, *, ordered: bool = False
) -> list[StudyFigure]:
    """Figures of every task.

    `coded` are the answers as numbers, `good` what drifts (right or wrong, a rating), of a range of
    `span`. Of `ordered` answers neighbours agree.
    """
    return [*repeats(block, coded, ordered=ordered), *times(block), *drifts(block, good, span)]


def repeats(block: Block, coded: Answer, *, ordered: bool) -> list[StudyFigure]:
    """How often a reader says the same of a picture again, and kappa of it over all readers."""
    first = {(e.reader, e.trial): e for e in block.scored}
    again = [e for e in block.of_kind("repeat") if (e.reader, e.repeat_of) in first]
    place, name = Place(block.task, block.phase), "repeat agreement"
    if not again:
        return [missing(place, name, "no picture was shown twice")]

    def same(each: Judgement) -> float | None:
        before, now = coded(first[each.reader, int(each.repeat_of or 0)]), coded(each)
        if before is None or now is None:
            return None
        return float(abs(before - now) <= (1 if ordered else 0))

    def of(some: Sequence[Judgement]) -> ByReader:
        return means(rows(some, same, lambda each: True), (0, 1))

    found = [measure(place, name, again, of)]
    twice = by_reader(again)
    for reader in block.readers:
        own = twice.get(reader, [])
        found.append(measure(replace(place, reader=reader), name, own, of))
    pairs = [(coded(first[e.reader, int(e.repeat_of or 0)]), coded(e)) for e in again]
    known = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
    kappa = _kappa(known[:, 0], known[:, 1], ordered=ordered)
    return [*found, _of_agreement(place, "repeat kappa", kappa, len({e.reader for e in again}))]


def times(block: Block) -> list[StudyFigure]:
    """Median seconds that a picture was seen: of each reader, and of all the median of these."""
    place, name = Place(block.task, block.phase), "median seconds"
    found: list[StudyFigure] = []
    answers = by_reader(block.scored)
    for reader in block.readers:
        own = [e.seconds for e in answers.get(reader, []) if e.seconds is not None]
        where = replace(place, reader=reader)
        if own:
            found.append(StudyFigure(where, name, median(own), n=len(own), readers=1))
    if not (values := [f.value for f in found if f.value is not None]):
        return [missing(place, name, "no times were recorded")]
    count = sum(f.n for f in found)
    return [StudyFigure(place, name, median(values), n=count, readers=len(values)), *found]


def drifts(block: Block, good: Answer, span: float) -> list[StudyFigure]:
    """The second half of each reader's answers less the first."""
    later: dict[tuple[str, int], bool] = {}
    answers = by_reader(block.scored)
    for reader in block.readers:
        own = sorted(answers.get(reader, []), key=lambda e: e.position)
        later |= {(reader, e.trial): k >= len(own) / 2 for k, e in enumerate(own)}

    def of(some: Sequence[Judgement]) -> ByReader:
        answered = ((e, value) for e in some if (value := good(e)) is not None)
        each = ((e, later[e.reader, e.trial], value) for e, value in answered)
        cases = readings((e.reader, (e.items, half), half, value) for e, half, value in each)
        return means(cases, (-1, 1), bounds=(-span, span))

    place, name = Place(block.task, block.phase), "drift"
    found = [measure(place, name, block.scored, of)]
    for reader in block.readers:
        own = answers.get(reader, [])
        found.append(measure(replace(place, reader=reader), name, own, of))
    return found


def agreements(
    block: Block, coded: Answer, *, ordered: bool = False, judgements: Sequence[Judgement] = ()
) -> list[StudyFigure]:
    """Kappas between readers: the mean of all pairs', and those for several readers."""
    place = Place(block.task, block.phase)
    scored = list(judgements) or block.scored
    if len({e.reader for e in scored}) < 2:
        return [missing(place, "kappa between readers", "it takes two readers")]
    ratings = rows(scored, coded, lambda each: True).answers.T
    several = ratings[(~np.isnan(ratings)).sum(1) > 1]  # the others are in no pair
    pairs = [
        _kappa(several[:, a], several[:, b], ordered=ordered)
        for a, b in combinations(range(ratings.shape[1]), 2)
    ]
    known = [pair.value for pair in pairs if pair.value is not None]
    shared = max(pair.units for pair in pairs)
    name = f"{'weighted ' if ordered else ''}kappa between readers"
    if len(pairs) == 1:
        found = [_of_agreement(place, name, pairs[0], 2)]
    elif known:
        note = f"mean of {len(known)} pairs, {min(known):.2f} to {max(known):.2f}"
        found = [StudyFigure(place, name, float(np.mean(known)), n=shared, readers=ratings.shape[1],
                             cases=shared, note=note)]  # fmt: skip
    else:
        found = [missing(place, name, "each reader gave one answer to all")]
    scale = "ordinal" if ordered else "nominal"
    of_all = {f"Krippendorff's alpha ({scale})": krippendorff(ratings, scale)}
    if not ordered:
        of_all["Gwet's AC1"] = gwet(ratings)
        try:
            of_all["Fleiss' kappa"] = fleiss(ratings)
        except VesaliusError as error:
            found.append(missing(place, "Fleiss' kappa", str(error)))
    count = ratings.shape[1]
    return [*found, *(_of_agreement(place, each, made, count) for each, made in of_all.items())]


def _kappa(first: np.ndarray, second: np.ndarray, *, ordered: bool) -> Agreement:
    """Cohen's kappa; of ordered answers, which are 1 to 5, with quadratic weights."""
    if ordered:
        return cohen(table(first, second, (1, 2, 3, 4, 5)), "quadratic")
    return cohen(table(first, second))


def _of_agreement(place: Place, name: str, made: Agreement, readers: int) -> StudyFigure:
    if made.value is None:
        why = "all answers are alike, so that chance explains all agreement" if made.units else "no case was judged twice"  # fmt: skip
        return missing(place, name, why)
    note = "" if made.observed is None else f"the same answer in {100 * made.observed:.0f} %"
    return StudyFigure(place, name, made.value, made.low, made.high, n=made.units, readers=readers,
                       cases=made.units, scope="these readers only", note=note, se=made.se)  # fmt: skip


def said_of_conduct(block: Block, figures: Sequence[StudyFigure], what: str) -> list[Sentence]:
    """What repeats and drift say of how far the answers can be trusted."""
    pooled = {f.metric: f for f in figures if f.place == Place(block.task, block.phase)}
    said: list[Sentence] = []
    again, drift = pooled.get("repeat agreement"), pooled.get("drift")
    if again and again.value is not None:
        weak = again.value < 0.7
        same = (
            "an answer within one point of the first" if block.task in RATED else "the same answer"
        )
        text = f"Shown a picture again, readers gave {same} in {share(again.value)} of {again.n} answers."
        said.append(Sentence("warning" if weak else "note", text, block.task))
    if drift and drift.is_not(0):
        way = "rose" if (drift.value or 0) > 0 else "fell"
        text = f"{what} {way} from the first to the second half, {with_interval(drift)}: readers learned or tired."  # fmt: skip
        said.append(Sentence("note", text, block.task))
    return said
