"""How large must epsilon be, given what an attack got right? A lower bound, for any model that exists.

A training and a held-out patient of one stratum, with as many images, are a pair: where the split was
drawn at random, a fair coin decided which of the two was trained on. Each right guess speaks against a
small replace-one epsilon (`statistics.privacy_audit`). A guarantee by zeroing a patient out allows
twice its epsilon here, for a replacement is two such steps.
"""

from collections.abc import Iterator

from vesalius.core.privacy_card import PrivacyCard
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.attacked import attacked
from vesalius.evaluate.metrics.base import Case, Figures, Metric, Question, Result, Sentence
from vesalius.evaluate.metrics.membership import calibration, unfair_attacks, why_not
from vesalius.statistics.figure import Figure, select
from vesalius.statistics.privacy_audit import OneRunBound, paired_bound

DELTA = 1e-5  # where no card claims another


def measure(case: Case) -> Result:
    """The lower bound by pairs, with its ceiling; or why there is none."""
    result, model = Result(), case.models.generator
    if why := why_not(case) or case.no_coin:
        result.leave_out("audit", "epsilon", why)
        return result
    assert model is not None
    try:
        seen = attacked(case, model.generator, model.base)
        if not seen.loss.any():
            raise VesaliusError(
                "model and base err alike on every image, so that an audit says nothing: is this the "
                "adapter that was trained on them?"
            )
        card = model.card
        found = paired_bound(seen.loss[: seen.pairs] - seen.loss[seen.pairs :], _delta(card))
    except VesaliusError as error:
        result.leave_out("audit", "epsilon", str(error))
        return result
    result.add("audit", [as_figure(found, card)], extractor=model.name)
    result.add("audit", calibration(seen, case.seed))
    return result


def _delta(card: PrivacyCard | None) -> float:
    return card.delta if card and card.epsilon is not None else DELTA


def as_figure(found: OneRunBound, card: PrivacyCard | None = None) -> Figure:
    """The bound as a figure; its note names the ceiling."""
    details = {
        "ceiling": found.ceiling,
        "pairs": float(found.canaries),
        "guesses": float(found.guesses),
        "right": float(found.right),
        "delta": found.delta,
        "confidence": found.confidence,
    }
    if card and card.epsilon is not None:
        details["claim"] = card.epsilon
    note = (
        f"replace-one, {found.confidence:.0%} confidence, delta {found.delta:.1g}; at most "
        f"{found.ceiling:.2f} if all guesses were right"
    )
    return Figure("epsilon", found.epsilon, found.epsilon, None, n=found.canaries, note=note,
                  details=details)  # fmt: skip


def _sentences(figures: Figures, _reference: str) -> Iterator[Sentence]:
    unfair = unfair_attacks(figures, "audit")
    for figure in select(figures, part="audit", metric="epsilon"):
        if figure.value is None:
            continue
        known = {name: value or 0.0 for name, value in figure.details.items()}
        claim = figure.details.get("claim")
        tail = (
            f"{known['right']:.0f} of {known['guesses']:.0f} guesses were right, of {figure.n:,} pairs "
            f"of patients; at most {known['ceiling']:.2f} could have been shown, if all had been"
        )
        if not figure.value:
            yield "good", f"The audit found no lower bound on epsilon above 0: {tail}."
        else:
            text = (
                f"The audit shows that the replace-one epsilon is at least {figure.value:.2f}, with "
                f"{known['confidence']:.0%} confidence: {tail}."
            )
            broken = claim is None or figure.value > 2 * claim
            if claim is not None:
                text += f" The claim of {claim:.2f} allows {2 * claim:.2f}."
            yield ("unknown" if unfair else "bad" if broken else "good"), text


def _answer(figures: Figures, _reference: str) -> str:
    for figure in select(figures, part="audit", metric="epsilon"):
        if figure.value is not None:
            unfair = "unfair: " if unfair_attacks(figures, "audit") else ""
            most = figure.details["ceiling"] or 0.0
            return f"{unfair}at least {figure.value:.2f}; at most {most:.2f} could be shown"
    return ""


METRIC = Metric(
    measure,
    {"epsilon": "Epsilon is at least"},
    (Question("How large must epsilon be, by the audit?", _sentences, _answer),),
    of_model=True,
)
