"""Quality and agreement with the prompt, from 1 to 5, on each arm."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from vesalius.statistics.equivalence import non_inferiority
from vesalius.statistics.readers import ByReader, Estimate, means
from vesalius.study.judgements import FAKE, REAL, Block, Judgement
from vesalius.study.measures.conduct import agreements, conduct, said_of_conduct
from vesalius.study.measures.groups import groups, measured, of_sets, rows
from vesalius.study.measures.turing import fakes_caught
from vesalius.study.measures.words import called, reach, share, signed, with_interval
from vesalius.study.results import ALL, Found, Sentence, StudyFigure, Table

LEVELS = (1, 2, 3, 4, 5)
BOUNDS, SPAN = (1.0, 5.0), 4.0
POOR = 2  # the highest rating by which a gross fake counts as caught
WHAT = {"quality": "quality", "alignment": "agreement with the prompt"}


def rated(each: Judgement) -> float | None:
    """The rating."""
    return float(each.value) if each.value in {str(level) for level in LEVELS} else None


def _mean(weights: tuple[float, float], some: Sequence[Judgement]) -> ByReader:
    bounds = (-SPAN, SPAN) if min(weights) < 0 else BOUNDS
    return means(rows(some, rated), weights, bounds=bounds)


def _poor(each: Judgement) -> float | None:
    value = rated(each)
    return None if value is None else float(value <= POOR)


def rating(block: Block, margin: float) -> Found:
    """All of a task of ratings; `margin` is a share of the scale: 0.1 is 0.4 points."""
    figures: list[StudyFigure] = []
    estimates: dict[str, Estimate | None] = {}
    for arm, of_arm in of_sets(block, block.scored):
        for place, some in groups(block, of_arm):
            if arm == ALL:
                real = replace(place, arm=REAL)
                figures.append(measured(real, "mean rating", some, partial(_mean, (1, 0)))[0])
            place = replace(place, arm=block.pooled if arm == ALL else arm)
            figures.append(measured(place, "mean rating", some, partial(_mean, (0, 1)))[0])
            figure, estimate = measured(place, "difference", some, partial(_mean, (-1, 1)))
            figures.append(figure)
            if place.pooled:
                estimates[place.arm] = estimate
    if block.of_kind("fake"):
        figures += fakes_caught(block, _poor)
    figures += conduct(block, rated, rated, SPAN, ordered=True)
    figures += agreements(block, rated, ordered=True)
    tables = [_distribution(block)]
    if block.task == "alignment":
        tables.append(_wrong_words(block))
    found = Found(block.task, block.phase, figures, (), tables)
    said: list[Sentence] = []
    for arm, estimate in estimates.items():
        said += _verdict(found, arm, estimate, SPAN * margin)
    said += _fakes(found)
    return replace(found, sentences=[*said, *said_of_conduct(block, figures, "Ratings")])


def _verdict(found: Found, arm: str, estimate: Estimate | None, margin: float) -> list[Sentence]:
    task, what = found.task, WHAT[found.task]
    own = found.get("mean rating", arm=arm)
    real, apart = found.get("mean rating", arm=REAL), found.get("difference", arm=arm)
    if own is None or own.value is None or real is None or apart is None:
        return []
    if real.value is None or estimate is None:
        text = (
            f"Mean {what} of {called(arm)}: {with_interval(own)} of 5; no real images were rated."
        )
        return [Sentence("note", text, task)]
    who = reach(estimate.scope, estimate.readers)
    text = (
        f"Mean {what} of {called(arm)} {with_interval(own)}, of real ones {with_interval(real)}, of 5; "
        f"difference {signed(estimate.value)} (95 % interval {signed(apart.low)} to {signed(apart.high)}; {who}). "
    )
    test = non_inferiority(estimate, margin)
    bound = f"rated lower by less than {margin:g} points, the locked margin, if at all"
    interval = f"90 % interval from {signed(test.low)}"
    if test.shown:
        return [Sentence("holds", f"{text}Shown: {bound} ({interval}).", task)]
    worse = (apart.high or 0) < 0
    tail = "They were rated lower." if worse else "That is no proof that they are worse."
    return [Sentence("unproven", f"{text}Not shown: {bound} ({interval}). {tail}", task)]


def _fakes(found: Found) -> list[Sentence]:
    fakes = found.get("fakes caught", arm=FAKE)
    if fakes is None or fakes.value is None:
        return []
    text = f"Gross fakes were rated {POOR} or less in {share(fakes.value)} of {fakes.n} answers."
    low = fakes.value < 0.8
    return [
        Sentence(
            "warning" if low else "note",
            text + (" Readers who rate these well say little about good images." if low else ""),
            found.task,
        )
    ]


def _distribution(block: Block) -> Table:
    """How often each arm got each rating."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for each in block.of_kind("scored", "fake"):
        if (value := rated(each)) is not None:
            counts[each.arm][int(value)] += 1
    order = sorted(counts, key=lambda arm: (arm != REAL, arm == FAKE, arm))
    lines = [(arm, sum(counts[arm].values()), *(counts[arm][k] for k in LEVELS)) for arm in order]
    return Table("Ratings of each arm", ("arm", "answers", *map(str, LEVELS)), lines, block.task)


def _wrong_words(block: Block) -> Table:
    """Which words of the prompts were ticked as wrong, of how often they were to be seen."""
    shown: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    for each in block.scored:
        words = [word.strip(".,;:()").casefold() for word in each.prompt.split()]
        shown.update({(each.arm, word) for word in words})
        ticked = {words[k] for k in ticks(each.details) if k < len(words)}
        wrong.update((each.arm, word) for word in ticked)
    lines = [
        (word, arm, count, shown[arm, word], round(100 * count / shown[arm, word], 1))
        for (arm, word), count in sorted(wrong.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    columns = ("word", "arm", "ticked", "answers with it", "percent")
    return Table("Words ticked as wrong", columns, lines, block.task)


def ticks(details: str) -> list[int]:
    """The positions in a JSON list; none where it is no such list."""
    try:
        found = json.loads(details or "[]")
    except ValueError:
        return []
    return [k for k in found if isinstance(k, int) and k >= 0] if isinstance(found, list) else []
