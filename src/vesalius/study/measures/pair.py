"""Two pictures side by side: which is real, or which is better."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from vesalius.errors import VesaliusError
from vesalius.statistics.equivalence import equivalence
from vesalius.statistics.preferences import Choice, worths
from vesalius.statistics.readers import ByReader, Estimate, means
from vesalius.statistics.signal_detection import two_afc_d_primes
from vesalius.study.judgements import FAKE, REAL, Block, Judgement, by_reader
from vesalius.study.measures.conduct import agreements, conduct, said_of_conduct
from vesalius.study.measures.groups import measure, of_each_set, rows
from vesalius.study.measures.turing import CHANCE, fakes_caught, not_told_apart
from vesalius.study.measures.words import called, reach, share, with_interval
from vesalius.study.results import Found, Place, Sentence, StudyFigure, Table, missing

TIE = 0.5
_SIDES: Mapping[str, Literal["left", "right"] | None] = {
    "left": "left",
    "right": "right",
    "tie": None,
}


def left(each: Judgement) -> float | None:
    """1 where the left one was chosen, a half for a tie."""
    return {"left": 1.0, "right": 0.0, "tie": TIE}.get(each.value)


def chosen_arm(each: Judgement) -> str:
    """The arm of the picture that was chosen, "tie" for none."""
    return {"left": each.arm, "right": each.arm_right}.get(each.value, "tie")


def chose_real(each: Judgement) -> float | None:
    """1 where the real one of a real and another picture was chosen, a half for a tie."""
    if REAL not in (each.arm, each.arm_right) or each.arm == each.arm_right:
        return None
    return TIE if each.value == "tie" else float(chosen_arm(each) == REAL)


def _share(some: Sequence[Judgement]) -> ByReader:
    return means(rows(some, chose_real, lambda each: True), (0, 1))


def _left(some: Sequence[Judgement]) -> ByReader:
    return means(rows(some, left, lambda each: True), (0, 1))


def _ties(some: Sequence[Judgement]) -> ByReader:
    return means(rows(some, lambda each: float(each.value == "tie"), lambda each: True), (0, 1))


def _d_prime(some: Sequence[Judgement]) -> ByReader:
    return two_afc_d_primes(rows(some, chose_real, lambda each: True))


def pair(block: Block, margin: float, compare: str) -> Found:
    """All of a task of pairs; `compare` is realism or preference."""
    with_real = [e for e in block.scored if chose_real(e) is not None]
    metrics = {"real chosen": _share, "ties": _ties} | (
        {"d' (2AFC)": _d_prime} if compare == "realism" else {}
    )
    figures, estimates = of_each_set(block, with_real, metrics, "real chosen")
    figures += _worths(block) + _sides(block) + fakes_caught(block, chose_real)
    figures += conduct(block, left, chose_real, 1.0) + agreements(block, _same_side)
    found = Found(block.task, block.phase, figures, (), [_choices(block)])
    said: list[Sentence] = []
    for arm, estimate in estimates.items():
        said += _verdict(found, arm, estimate, margin, compare)
    said += _of_sides(found) + said_of_conduct(block, figures, "The share of real images chosen")
    return replace(found, sentences=said)


def _same_side(each: Judgement) -> float | None:
    """The choice in terms of pictures, as sides are reversed between readers."""
    side = left(each)
    swapped = each.items[0] != each.item_left
    return side if side is None or not swapped else 1 - side


def _worths(block: Block) -> list[StudyFigure]:
    """What each arm is worth (Davidson), of a sum of 1, and how often equals are a tie."""
    place = Place(block.task, block.phase)
    choices = [Choice(e.reader, e.items, e.arm, e.arm_right, _SIDES[e.value]) for e in block.scored]
    try:
        found = worths(choices)
    except VesaliusError as error:
        return [missing(place, "worth", str(error))]
    low = found.low if found.low is not None else [None] * len(found.names)
    high = found.high if found.high is not None else [None] * len(found.names)
    count = len({choice.reader for choice in choices})
    figures = [
        StudyFigure(replace(place, arm=name), "worth", float(value), a, b, n=found.judged,
                    readers=count, scope=found.scope)
        for name, value, a, b in zip(found.names, found.values, low, high, strict=True)
    ]  # fmt: skip
    note = "how often two of equal worth are a tie, against a win of either"
    return [*figures, StudyFigure(place, "nu", found.nu, n=found.judged, note=note)]


def _sides(block: Block) -> list[StudyFigure]:
    """How often the left one was chosen, of all pairs and of two real ones, where nothing else differs."""
    place = Place(block.task, block.phase)
    same = block.of_kind("same")
    found = [measure(place, "left chosen", block.scored + same, _left)]
    answers = by_reader(block.scored + same)
    for reader in block.readers:
        own = answers.get(reader, [])
        found.append(measure(replace(place, reader=reader), "left chosen", own, _left))
    control = replace(place, arm=REAL)
    found.append(measure(control, "left chosen, both real", same, _left))
    found.append(measure(control, "ties, both real", same, _ties))
    return found


def _verdict(
    found: Found, arm: str, estimate: Estimate | None, margin: float, compare: str
) -> list[Sentence]:
    what = called(arm)
    if estimate is None:
        figure = found.get("real chosen", arm=arm)
        why = figure.why if figure else "nobody answered"
        return [Sentence("unproven", f"Real images against {what}: {why}.", found.task)]
    test = equivalence(estimate, CHANCE, margin)
    if compare == "realism":
        fakes = found.get("fakes caught", arm=FAKE)
        name = "share of pairs in which the real one was found"
        return [not_told_apart(what, estimate, test, fakes, found.task, name)]
    figure = found.get("real chosen", arm=arm)
    who = reach(estimate.scope, estimate.readers)
    text = f"Real images were preferred to {what} in {with_interval(figure)} of the pairs, a tie as a half ({who}). "  # fmt: skip
    if test.shown:
        return [Sentence("holds", f"{text}That is within {margin:.2f} of an equal choice, the locked margin: no preference beyond it.", found.task)]  # fmt: skip
    return [Sentence("unproven", f"{text}It is not shown that neither is preferred: the 90 % interval, {test.low:.3f} to {test.high:.3f}, is not within {margin:.2f} of an equal choice.", found.task)]  # fmt: skip


def _of_sides(found: Found) -> list[Sentence]:
    said: list[Sentence] = []
    side = found.get("left chosen")
    if side and side.is_not(TIE):
        way = "left" if (side.value or 0) > TIE else "right"
        text = (
            f"Readers chose the {way} picture too often (left: {with_interval(side)}); sides are "
            "balanced, so this blurs the figures and does not shift them."
        )
        said.append(Sentence("warning", text, found.task))
    control = found.get("left chosen, both real", arm=REAL)
    if control and control.value is not None:
        text = f"Of two real images the left one was chosen in {share(control.value)} of {control.n} answers: the control, expected at a half."  # fmt: skip
        said.append(Sentence("note", text, found.task))
    return said


def _choices(block: Block) -> Table:
    """Wins, losses and ties of each kind of pair."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for each in block.judgements:
        if each.kind == "repeat":
            continue
        first, second = sorted((each.arm, each.arm_right), key=lambda arm: (arm != REAL, arm))
        chosen = chosen_arm(each) if first != second else each.value
        counts[first, second, chosen] += 1
    lines = []
    for first, second in sorted({key[:2] for key in counts}):
        names = (first, second) if first != second else ("left", "right")
        won = [counts[first, second, name] for name in (*names, "tie")]
        lines.append(
            (first, second if first != second else f"{second} (left, right)", sum(won), *won)
        )
    columns = ("first", "second", "answers", "first chosen", "second chosen", "ties")
    return Table("What was chosen", columns, lines, block.task)
