"""What readers see in real and in synthetic images: is a synthetic finding recognised as well?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from vesalius.statistics.equivalence import non_inferiority
from vesalius.statistics.readers import ByReader, Estimate, means
from vesalius.study.judgements import REAL, Block, Judgement
from vesalius.study.measures.conduct import agreements, conduct, said_of_conduct
from vesalius.study.measures.groups import groups, measured, of_sets, rows
from vesalius.study.measures.turing import right
from vesalius.study.measures.words import called, reach, signed, with_interval
from vesalius.study.results import ALL, Found, Sentence, StudyFigure, Table


def diagnosis(block: Block, margin: float) -> Found:
    """All of a task of diagnoses."""
    figures: list[StudyFigure] = []
    estimates: dict[str, Estimate | None] = {}
    for arm, of_arm in of_sets(block, block.scored):
        named = block.pooled if arm == ALL else arm
        for place, some in groups(block, of_arm):
            if arm == ALL:
                real = replace(place, arm=REAL)
                figures.append(measured(real, "accuracy", some, partial(_accuracy, (1, 0)))[0])
            place = replace(place, arm=named)
            figures.append(measured(place, "accuracy", some, partial(_accuracy, (0, 1)))[0])
            figure, estimate = measured(place, "difference", some, partial(_accuracy, (-1, 1)))
            figures.append(figure)
            if place.pooled:
                estimates[named] = estimate
    code = {value: float(k) for k, value in enumerate(sorted({e.value for e in block.judgements}))}

    def coded(each: Judgement) -> float | None:
        return code[each.value]

    figures += conduct(block, coded, right, 1.0) + agreements(block, coded)
    found = Found(block.task, block.phase, figures, (), _confusions(block))
    said: list[Sentence] = []
    for arm, estimate in estimates.items():
        said += _verdict(found, arm, estimate, margin)
    said += said_of_conduct(block, figures, "Accuracy")
    return replace(found, sentences=said)


def _accuracy(weights: tuple[float, float], some: Sequence[Judgement]) -> ByReader:
    bounds = (-1.0, 1.0) if min(weights) < 0 else (0.0, 1.0)
    return means(rows(some, right), weights, bounds=bounds)


def _verdict(found: Found, arm: str, estimate: Estimate | None, margin: float) -> list[Sentence]:
    own, real = found.get("accuracy", arm=arm), found.get("accuracy", arm=REAL)
    apart = found.get("difference", arm=arm)
    if own is None or real is None or apart is None or estimate is None:
        why = apart.why if apart else "nobody answered"
        return [
            Sentence(
                "unproven", f"Diagnoses of {called(arm)} against real ones: {why}.", found.task
            )
        ]
    who = reach(estimate.scope, estimate.readers)
    text = (
        f"Readers found the label of {called(arm)} in {with_interval(own)}, that of real "
        f"ones in {with_interval(real)}; difference {signed(estimate.value, 3)} (95 % interval "
        f"{signed(apart.low, 3)} to {signed(apart.high, 3)}; {who}). "
    )
    test = non_inferiority(estimate, margin)
    bound = f"recognised less often by under {100 * margin:g} in a hundred, the locked margin, if at all"
    interval = f"90 % interval from {signed(test.low, 3)}"
    if test.shown:
        return [Sentence("holds", f"{text}Shown: {bound} ({interval}).", found.task)]
    tail = "They were recognised less often." if (apart.high or 0) < 0 else "That is no proof that they are worse."  # fmt: skip
    return [Sentence("unproven", f"{text}Not shown: {bound} ({interval}). {tail}", found.task)]  # fmt: skip


def _confusions(block: Block) -> list[Table]:
    """For each arm how often each label got each answer."""
    tables = []
    for arm in [REAL, *block.arms]:
        own = [e for e in block.scored if e.arm == arm]
        answers = sorted({e.value for e in own} | {e.truth for e in own})
        counts = Counter((e.truth, e.value) for e in own)
        lines = [
            (truth, *(counts[truth, value] for value in answers))
            for truth in sorted({e.truth for e in own})
        ]
        if lines:
            title = f"Diagnoses of {arm} images"
            tables.append(Table(title, ("label", *answers), lines, block.task))
    return tables
