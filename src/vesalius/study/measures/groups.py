"""Of whom and of what a figure is: all readers, each one, a specialty, a band of years, a label, a set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from vesalius.statistics.readers import ByReader, Estimate, Readings, readings
from vesalius.study.judgements import BANDS, REAL, RECONSTRUCTED, Block, Judgement, by_reader
from vesalius.study.results import ALL, Place, StudyFigure, estimated, missing

Measure = Callable[[Sequence[Judgement]], ByReader]
Answer = Callable[[Judgement], float | None]  # as a number; None where there is none


def rows(
    judgements: Sequence[Judgement],
    answer: Answer,
    positive: Callable[[Judgement], bool] = lambda each: each.arm != REAL,
) -> Readings:
    """Answers as readers x cases; those that are None are left out."""
    return readings(
        (each.reader, each.items, positive(each), value)
        for each in judgements
        if (value := answer(each)) is not None
    )


def groups(
    block: Block, judgements: Sequence[Judgement]
) -> Iterator[tuple[Place, list[Judgement]]]:
    """All, then each reader, specialty, band of years and label; groups that are all are left out."""
    place = Place(block.task, block.phase)
    people = {person.reader: person for person in block.people}
    yield place, list(judgements)
    own = by_reader(judgements)
    for reader in block.readers:
        yield replace(place, reader=reader), own.get(reader, [])
    for name, of in (
        ("specialty", lambda e: e.specialty),
        ("years", lambda e: people[e.reader].band if e.reader in people else ""),
        ("label", lambda e: e.label),
    ):
        values = sorted({of(e) for e in judgements} - {""}, key=_order)
        if len({of(e) for e in judgements}) > 1:
            for value in values:
                yield replace(place, **{name: value}), [e for e in judgements if of(e) == value]


def _order(name: str) -> tuple[int, str]:
    return (BANDS.index(name), "") if name in BANDS else (0, name)


def of_sets(block: Block, judgements: Sequence[Judgement]) -> Iterator[tuple[str, list[Judgement]]]:
    """All synthetic pictures together; each set by itself where there are several; reconstructed ones."""
    if block.sets or not block.arms:
        yield ALL, [e for e in judgements if e.synthetic_arm != RECONSTRUCTED]
    for arm in block.arms:
        if len(block.sets) > 1 or arm == RECONSTRUCTED:
            yield arm, [e for e in judgements if e.synthetic_arm in (arm, REAL)]


def of_each_set(
    block: Block, judgements: Sequence[Judgement], measures: Mapping[str, Measure], verdict: str
) -> tuple[list[StudyFigure], dict[str, Estimate | None]]:
    """Every measure of every set and group; of the one called `verdict`, each set's pooled estimate."""
    figures: list[StudyFigure] = []
    estimates: dict[str, Estimate | None] = {}
    for arm, of_arm in of_sets(block, judgements):
        for place, some in groups(block, of_arm):
            place = replace(place, arm=arm)
            for name, of in measures.items():
                figure, estimate = measured(place, name, some, of)
                figures.append(figure)
                if name == verdict and place.pooled:
                    estimates[arm] = estimate
    return figures, estimates


def measure(place: Place, metric: str, some: Sequence[Judgement], of: Measure) -> StudyFigure:
    """A figure over the readers of some answers, or why there is none."""
    return measured(place, metric, some, of)[0]


def measured(
    place: Place, metric: str, some: Sequence[Judgement], of: Measure
) -> tuple[StudyFigure, Estimate | None]:
    """The same with what its tests need."""
    if not some:
        return missing(place, metric, "nobody answered"), None
    return estimated(place, metric, of(some))
