"""A protocol from what was asked for on the command line, with the default texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.config import validated
from vesalius.errors import VesaliusError
from vesalius.study import wording
from vesalius.study.protocol import WITH_FAKES, Protocol
from vesalius.study.settings import DesignSettings


def make_protocol(design: DesignSettings, labels: Sequence[str], title: str) -> Protocol:
    """The protocol, but for its pixels, which the images decide.

    Raises VesaliusError where the settings do not go together.
    """
    readers = [{"name": name, "specialty": special} for name, special in design.named_readers()]
    values = {
        "title": wording.UNAWARE_TITLE if design.unaware_first else title,
        "question": wording.QUESTION,
        "seed": design.seed,
        "readers": readers,
        "tasks": [_task(name, design, labels) for name in design.tasks],
        "training": design.training,
        "unaware_first": design.unaware_first,
        "pixels": {"width": 1, "height": 1},
        "consent": wording.UNAWARE_CONSENT if design.unaware_first else wording.CONSENT,
    }
    return validated(Protocol, values, "the design")


def _task(name: Any, design: DesignSettings, labels: Sequence[str]) -> dict[str, Any]:
    pair, preferred = name == "pair", design.compare == "preference"
    if name == "diagnosis" and len(labels) < 2:
        raise VesaliusError(
            f"a diagnosis needs two labels or more that all arms have, and there is {labels[0]!r}: "
            "leave diagnosis out of --tasks"
        )
    return {
        "task": name,
        "question": wording.PREFERENCE if pair and preferred else wording.QUESTIONS[name],
        "trials": design.trials,
        "repeats": design.repeats,
        "fakes": design.fakes if name in WITH_FAKES else 0,
        "same": design.same if pair else 0,
        "compare": design.compare if pair else "realism",
        "ties": pair and preferred,
        "specialty": design.specialties.get(name, ""),
        "anchors": wording.ANCHORS.get(name, {}),
        "labels": list(labels) if name == "diagnosis" else [],
        "margin": design.margin,
    }


def take_pixels(protocol: Protocol, **pixels: Any) -> Protocol:
    """The same protocol with what its images have in common."""
    return Protocol.model_validate(protocol.model_dump() | {"pixels": pixels})


def check_labels(protocol: Protocol, labels: Sequence[str], path: Path | str) -> None:
    """Raise VesaliusError where a protocol of the user's offers diagnoses that leave one out."""
    for task in protocol.tasks:
        if task.task == "diagnosis" and (lost := sorted(set(labels) - set(task.labels))):
            raise VesaliusError(
                f"{path} offers no diagnosis {lost[0]!r}, which images have: add it"
            )
