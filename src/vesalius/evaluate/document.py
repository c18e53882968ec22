"""What an evaluation found, typed, and the document of metrics.json that is made of it."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vesalius._version import __version__
from vesalius.core.documents import read_json
from vesalius.core.privacy_card import cards_of_set
from vesalius.evaluate.inputs import Inputs
from vesalius.evaluate.metrics.base import Kind, Result
from vesalius.evaluate.sets import ComparedSet
from vesalius.evaluate.settings import EvaluateSettings
from vesalius.evaluate.validity import Remark
from vesalius.models.networks.extractors import Extractor
from vesalius.statistics.figure import Measured

FORMAT = 1  # of metrics.json
_LIBRARIES = ("torch", "numpy", "pillow", "diffusers", "transformers", "timm", "scikit-learn")


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What an evaluation found, and where its report is."""

    folder: Path
    figures: dict[str, list[Measured]]  # by synthetic set
    of_model: list[Measured]
    sentences: dict[str, dict[Kind, list[str]]]  # by synthetic set
    remarks: list[Remark]  # on whether the sets can be compared, the worst first
    document: dict[str, Any] = field(compare=False)  # of metrics.json

    @property
    def unfair(self) -> bool:
        """Whether a figure may measure the files instead of the generator."""
        return any(remark.severity == "unfair" for remark in self.remarks)

    @property
    def lines(self) -> list[str]:
        """What there is to say of all sets, one sentence a line."""
        several = len(self.sentences) > 1
        return [
            f"{name + ', ' if several else ''}{kind}: {sentence}"
            for name, said in self.sentences.items()
            for kind in ("good", "bad", "unknown")
            for sentence in said[kind]
        ]

    def __repr__(self) -> str:
        unfair = [str(remark) for remark in self.remarks if remark.severity == "unfair"]
        return "\n".join([f"Evaluation in {self.folder}", *unfair, *self.lines])

    def _repr_html_(self) -> str:
        return "<br>".join(escape(line) for line in repr(self).splitlines())


@dataclass(frozen=True)
class Given:
    """What an evaluation was asked to do, for its document."""

    real: Path | str
    synthetic: Mapping[str, Path | str]
    settings: EvaluateSettings
    extractors: list[Extractor]
    unavailable: dict[str, str]
    model_name: str | None
    command: str
    readers: Mapping[str, Any] | None = None  # what a reader study says of the sets


def as_document(
    given: Given,
    inputs: Inputs,
    results: Mapping[str, Result],
    model: Result,
    remarks: list[Remark],
    seconds: float,
) -> dict[str, Any]:
    """The document but for its summary."""
    return {
        "format": FORMAT,
        "vesalius": __version__,
        "command": given.command,
        "settings": given.settings.as_dict(),
        "versions": _versions(),
        "training": {"known": inputs.training.known, "how": inputs.training.how},
        "real": {"path": str(given.real)} | _about(inputs.real),
        "references": {name: _about(one) for name, one in inputs.references.items()},
        "extractors": {e.name: e.identity for e in given.extractors},
        "unavailable": given.unavailable,
        "cut_to_px": inputs.side,
        "unfair": any(remark.severity == "unfair" for remark in remarks),
        "findings": [asdict(remark) for remark in remarks],
        "sets": {
            name: {"path": str(given.synthetic[name])}
            | _about(fake)
            | _found(results[name])
            | {"privacy": _cards(Path(given.synthetic[name]))}
            for name, fake in inputs.fakes.items()
        },
        "model": {"name": given.model_name} | _found(model),
        "readers": given.readers,
        "seconds": round(seconds, 1),
    }


def _about(one: ComparedSet) -> dict[str, Any]:
    keys = "\n".join(sorted(one.survey.keys))
    return {
        "images": len(one),
        "classes": dict(sorted(one.class_counts.items())),
        "sha256": hashlib.sha256(keys.encode()).hexdigest(),
    }


def _cards(folder: Path) -> list[dict[str, Any]]:
    """The privacy cards that a set carries on."""
    if not (folder / "about.json").is_file():
        return []
    return [card.as_dict() for card in cards_of_set(read_json(folder / "about.json"))]


def _found(result: Result) -> dict[str, Any]:
    return {"figures": [f.as_dict() for f in result.figures], "details": result.details}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
