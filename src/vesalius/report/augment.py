"""The page about the whole way: whether it helped, then what that rests on, cost, and how to repeat it."""

from collections.abc import Mapping, Sequence
from typing import Any

from vesalius.report.page import Remark, render, urgent_first
from vesalius.report.pictures import ClassPictures
from vesalius.report.study import ABOUT
from vesalius.report.utility import arms_plots, seeds_of


def augment_page(
    record: Mapping[str, Any],
    answer: Mapping[str, Any],
    evidence: Mapping[str, Any],
    *,
    meaning: str,
    method: str,
    steps: Mapping[Any, str],
    links: Mapping[str, str],
    training_seed: int | None,
    samples: Sequence[ClassPictures] = (),
) -> str:
    """The page.

    Args:
        record: augment.json.
        answer: the results of utility.
        evidence: the metrics of evaluate.
        meaning: what the answer lets one conclude.
        method: what the method is called.
        steps: what each step does.
        links: the pages `evidence` and `utility`.
        training_seed: of the generator; None where it was not trained.
        samples: pictures of each class.
    """
    remarks = _remarks(record, answer)
    unfair = [f["message"] for f in evidence["findings"] if f["severity"] == "unfair"]
    return render(
        "augment",
        r=record,
        u=answer,
        meaning=meaning,
        urgent=[remark for remark in remarks if remark.status == "unproven"],
        remarks=remarks,
        unfair=[Remark("unfair", message) for message in unfair],
        said=next(iter(evidence["summary"].values())),
        plots=arms_plots(answer),
        samples=samples,
        steps=steps,
        method=method,
        seeds=seeds_of(answer),
        seconds=sum(each["seconds"] for each in record["steps"].values()),
        stopped=any(each["starts"] > 1 for each in record["steps"].values()),
        links=links,
        readers=record.get("readers"),
        reader_metrics=ABOUT,
        training_seed=training_seed,
    )


def _remarks(record: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Remark]:
    """What was checked of the answer.

    What the base model has seen was looked at before training, and counts here: the finished
    generator's own record names the images of its last training only.
    """
    checks = [*record["checks"], *(c for c in answer["honesty"] if c["what"] == "classifier")]
    found = [Remark(check["status"], check["message"]) for check in checks]
    notes = [*record["division"]["notes"], *answer["notes"]]
    return urgent_first([*found, *(Remark("note", note) for note in notes)])
