"""Real or synthetic? Whether readers can tell, and which way they lean."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vesalius.statistics.equivalence import MarginTest, equivalence
from vesalius.statistics.readers import ByReader, Estimate, auc, means
from vesalius.statistics.signal_detection import criteria, d_primes
from vesalius.study.judgements import FAKE, REAL, Block, Judgement, by_reader
from vesalius.study.measures.conduct import agreements, conduct, said_of_conduct
from vesalius.study.measures.groups import Answer, Measure, measure, of_each_set, rows
from vesalius.study.measures.words import called, margin_interval, reach, share, with_interval
from vesalius.study.results import Found, Place, Sentence, StudyFigure, Table

LEAST_FAKES = 0.8  # of the gross fakes that must be caught
CHANCE = 0.5


def said(each: Judgement) -> float | None:
    """1 where the picture was called synthetic."""
    return {"synthetic": 1.0, "real": 0.0}.get(each.value)


def right(each: Judgement) -> float | None:
    """1 where the answer is right."""
    return None if each.correct is None else float(each.correct)


def _accuracy(some: Sequence[Judgement]) -> ByReader:
    return means(rows(some, right), (0.5, 0.5))


def _score(each: Judgement) -> float | None:
    return None if each.score is None else float(each.score)


MEASURES: Mapping[str, Measure] = {
    "accuracy": _accuracy,
    "sensitivity": lambda some: means(rows(some, said), (0, 1)),
    "specificity": lambda some: means(rows(some, right), (1, 0)),
    "fooling rate": lambda some: means(rows(some, _fooled), (0, 1)),
    "called synthetic": lambda some: means(rows(some, said), (0.5, 0.5)),
    "auc": lambda some: auc(rows(some, _score)),
    "d'": lambda some: d_primes(rows(some, said)),
    "criterion": lambda some: criteria(rows(some, said)),
}


def _fooled(each: Judgement) -> float | None:
    answer = said(each)
    return None if answer is None else 1 - answer


def turing(block: Block, margin: float) -> Found:
    """All of a real-or-synthetic task."""
    figures, estimates = of_each_set(block, block.scored, MEASURES, "accuracy")
    figures += fakes_caught(block, said)
    figures += conduct(block, said, right, 1.0)
    figures += agreements(block, said)
    found = Found(block.task, block.phase, figures, (), [_confusion(block)])
    spoken: list[Sentence] = []
    for arm, estimate in estimates.items():
        spoken += sentences(found, arm, estimate, margin)
    spoken += _leaning(found, block.task) + said_of_conduct(block, figures, "Accuracy")
    return replace(found, sentences=spoken)


def fakes_caught(block: Block, caught: Answer) -> list[StudyFigure]:
    """The share of gross fakes that were called synthetic, of each reader and of all."""
    fakes = block.of_kind("fake")
    place = Place(block.task, block.phase, arm=FAKE)
    if not fakes:
        why = "no gross fakes were shown"
        return [StudyFigure(place, "fakes caught", None, why=why)]

    def of(some: Sequence[Judgement]) -> ByReader:
        return means(rows(some, caught, lambda each: True), (0, 1))

    caught_by = by_reader(fakes)
    each = [(replace(place, reader=r), caught_by.get(r, [])) for r in block.readers]
    return [measure(where, "fakes caught", some, of) for where, some in [(place, fakes), *each]]


def sentences(found: Found, arm: str, estimate: Estimate | None, margin: float) -> list[Sentence]:
    """Whether it was shown that readers cannot tell the images of one arm from real ones."""
    task = found.task
    what = called(arm)
    if estimate is None:
        figure = found.get("accuracy", arm=arm)
        why = figure.why if figure else "nobody answered"
        return [Sentence("unproven", f"Whether readers tell {what} from real ones: {why}.", task)]
    test = equivalence(estimate, CHANCE, margin)
    fakes = found.get("fakes caught", arm=FAKE)
    return [not_told_apart(what, estimate, test, fakes, task, "accuracy")]


def not_told_apart(
    what: str,
    estimate: Estimate,
    test: MarginTest,
    fakes: StudyFigure | None,
    task: str,
    figure: str,
) -> Sentence:
    """The verdict on equivalence: shown, or all that is missing."""
    caught = fakes.value if fakes else None
    range_ = f"{test.null - test.margin:.2f} to {test.null + test.margin:.2f}"
    measured = f"{figure} {estimate.value:.3f}, {margin_interval(test)}"
    who = reach(estimate.scope, estimate.readers)
    if test.shown and caught is not None and caught >= LEAST_FAKES:
        text = (
            f"Shown: readers do not tell {what} from real ones by more than the margin ({measured}, "
            f"within {range_}, which was locked before), and they caught {share(caught)} of the gross "
            f"fakes ({who})."
        )
        return Sentence("holds", text, task)
    text = f"Not shown that readers cannot tell {what} from real ones: {measured} ({who}). "
    reasons: list[str] = []
    if not test.shown:
        reasons.append(
            f"The interval is not within the locked margin, {range_}. {_difference(estimate)}"
        )
    if caught is None:
        reasons.append("No gross fakes were shown, so realism cannot be told from inattention.")
    elif caught < LEAST_FAKES:
        reasons.append(
            f"Only {share(caught)} of the gross fakes were caught, less than {share(LEAST_FAKES)}: "
            "readers who miss these say little about good images."
        )
    return Sentence("unproven", text + " ".join(reasons), task)


def _difference(estimate: Estimate) -> str:
    low, high = estimate.interval()
    interval = f"95 % interval {low:.3f} to {high:.3f}"
    if low > CHANCE:
        return f"They were told apart ({interval})."
    if high < CHANCE:
        return f"Readers took the one for the other more often than by guessing ({interval}), which is a difference too."  # fmt: skip
    p = estimate.p(CHANCE)
    known = "" if p != p else f", p = {p:.2f}"
    return (
        f"It does not differ significantly from guessing ({interval}{known}), but not significantly "
        "different is not the same as indistinguishable."
    )


def _leaning(found: Found, task: str) -> list[Sentence]:
    """The response criterion, beside which accuracy must be read."""
    criterion, called = found.get("criterion"), found.get("called synthetic")
    fooled = found.get("fooling rate")
    if not (criterion and called and fooled) or None in (
        criterion.value,
        called.value,
        fooled.value,
    ):
        return []
    way = ""
    if criterion.low is not None and criterion.high is not None:
        way = (
            ", so they leaned towards synthetic" if criterion.high < 0
            else ", so they leaned towards real" if criterion.low > 0
            else ", no clear leaning"
        )  # fmt: skip
    text = (
        f"Readers called {share(called.value or 0)} of the pictures synthetic; criterion c "
        f"{with_interval(criterion)}{way}. Sensitivity, specificity and fooling rate "
        f"({share(fooled.value or 0)} of the synthetic pictures passed for real) depend on that "
        "leaning; d' and AUC do not."
    )
    return [Sentence("note", text, task)]


def _confusion(block: Block) -> Table:
    """How often each kind of picture was called what, by arm and label."""
    levels = ("real, sure", "real, fairly sure", "real, unsure", "synthetic, unsure",
              "synthetic, fairly sure", "synthetic, sure")  # fmt: skip
    some = block.of_kind("scored", "fake")
    keys = sorted({(e.arm, "all") for e in some} | {(e.arm, e.label) for e in some if e.label})
    lines = []
    for arm, label in keys:
        own = [e for e in some if e.arm == arm and label in ("all", e.label)]
        counts = Counter(e.score for e in own)
        called = sum(1 for e in own if e.value == "synthetic")
        row = (arm, label, len(own), called, *(counts[level] for level in range(1, 7)))
        if label == "all" or len(keys) < 60:
            lines.append(row)
    return Table(
        "What was called what",
        ("arm", "label", "answers", "called synthetic", *levels),
        sorted(lines, key=lambda row: (row[0] != REAL, row[0], row[1] != "all", row[1])),
        block.task,
    )
