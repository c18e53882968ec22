"""What the figures say in plain sentences: what is good, what is not, what could not be measured.

Each metric speaks of its own figures, beside those of real images in the same number. It is good when it
comes near enough; that a difference could not be shown is said to be unknown. Every sentence names its
numbers, so that a reader can disagree.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from vesalius.core.labels import listed
from vesalius.evaluate.metrics import METRICS
from vesalius.evaluate.metrics.base import Figures, Kind, Metric, Question, Sentence
from vesalius.statistics.figure import POOLED

_WORST: tuple[Kind, ...] = ("bad", "unknown", "good")
_NOT_KNOWN = "what the model was trained on is not known (--trained-on)"
_PARTS = {"membership": "Membership inference", "audit": "Audit", "anonymity": "Anonymity"}


@dataclass(frozen=True)
class Answer:
    """One line at the top of the report."""

    question: str
    answer: str
    kind: Kind


def load_metrics(names: Sequence[str] = ()) -> dict[str, Metric]:
    """The metrics of these names, or all of them, in the order of the registry."""
    return {name: METRICS.load(name) for name in METRICS.names() if not names or name in names}


def metric_names(metrics: Mapping[str, Metric]) -> dict[str, str]:
    """What a reader calls each figure."""
    return dict(chain.from_iterable(metric.names.items() for metric in metrics.values()))


@dataclass(frozen=True)
class Compared:
    """What a set was held against."""

    reference: str  # the name of it
    training_known: bool = True  # whether it is known what the model was trained on


def summarise(
    metrics: Mapping[str, Metric], figures: Figures, of_model: Figures, to: Compared
) -> dict[Kind, list[str]]:
    """All there is to say of a set, by kind, from its figures and those of the model."""
    said = [s for found in _answered(metrics, figures, of_model, to) for s in found[1]]
    said += [*_not_measured(metrics, of_model), *_not_measured(metrics, figures)]
    kinds: tuple[Kind, ...] = ("good", "bad", "unknown")
    return {kind: [text for found, text in said if found == kind] for kind in kinds}


def first_answers(
    metrics: Mapping[str, Metric],
    figures: Figures,
    of_model: Figures,
    to: Compared,
    by: str = "label",
) -> list[Answer]:
    """Each question that was measured, with its answer in one line; `by` is the column of classes."""
    answers = []
    for question, sentences, own in _answered(metrics, figures, of_model, to):
        answer, kinds = question.answer(own, to.reference), {kind for kind, _ in sentences}
        if answer and kinds:
            text = question.text
            if by != "label" and question.text_by:
                text = question.text_by.format(by=by)
            kind: Kind = next(one for one in _WORST if one in kinds)
            if kind == "unknown" and question.of_training and not to.training_known:
                answer = f"{_NOT_KNOWN}; of the real images in its place: {answer}"
            answers.append(Answer(text, answer, kind))
    return answers


def _answered(
    metrics: Mapping[str, Metric], figures: Figures, of_model: Figures, to: Compared
) -> Iterator[tuple[Question, list[Sentence], Figures]]:
    for metric in metrics.values():
        own = of_model if metric.of_model else figures
        for question in metric.questions:
            sentences = list(question.sentences(own, to.reference))
            if question.of_training and not to.training_known:
                sentences = [_unproven(sentence) for sentence in sentences]
            yield question, sentences, own


def _unproven(sentence: Sentence) -> Sentence:
    """Nothing good is known of training images where these are not known."""
    kind, text = sentence
    if kind != "good":
        return sentence
    return "unknown", f"{_NOT_KNOWN.capitalize()}. Of the real images in its place: {text}"


def _not_measured(metrics: Mapping[str, Metric], figures: Figures) -> Iterator[Sentence]:
    names, said = metric_names(metrics), set()
    for figure in figures:
        if figure.value is None and figure.of == POOLED and (figure.part, figure.why) not in said:
            said.add((figure.part, figure.why))
            name = _PARTS.get(figure.part) or names.get(figure.metric, figure.metric)
            yield "unknown", f"{name}: {figure.why}."
    few = {f.of for f in figures if f.value is None and f.part == "fidelity"} - {POOLED}
    if few:
        yield "unknown", f"Too few images for figures of their own: {listed(sorted(few))}."
