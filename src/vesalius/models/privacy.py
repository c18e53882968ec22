"""Which of a model and its adapters are private, and what then may not be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.core.paths import expanded
from vesalius.core.privacy_card import PrivacyCard, read_card
from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import adapter_file
from vesalius.models.adapters import parse_adapter


@dataclass(frozen=True)
class PrivacyCards:
    """The cards of a model and of its adapters, in order; None where there is none."""

    model: PrivacyCard | None
    adapters: tuple[PrivacyCard | None, ...]

    @property
    def any(self) -> PrivacyCard | None:
        """One of them, where there are any."""
        return next((card for card in (self.model, *self.adapters) if card), None)

    def as_dict(self) -> dict[str, Any]:
        """For a set's about.json."""
        known = [card and card.as_dict() for card in self.adapters]
        return {"model": self.model and self.model.as_dict(), "adapters": known}


def privacy_cards(model: Path, adapters: Sequence[str]) -> PrivacyCards:
    """The cards of a model's folder and of adapters such as `A:0.5`.

    Raises VesaliusError for a card that is damaged.
    """
    folders = [adapter_file(parse_adapter(text)[0]).parent for text in adapters]
    return PrivacyCards(read_card(model), tuple(read_card(folder) for folder in folders))


def card_of_run(path: Path) -> PrivacyCard | None:
    """The card of an adapter, its file, a run, or one of a run's adapters by label."""
    path = expanded(path)
    folders = [path if path.is_dir() else path.parent, path / "adapter", *path.glob("*/adapter")]
    return next((card for folder in folders if (card := read_card(folder))), None)


def refuse_guard(cards: PrivacyCards) -> None:
    """Raise VesaliusError where a guard would compare a private model's images with its patients'."""
    card = next((c for c in (cards.model, *cards.adapters) if c and c.epsilon is not None), None)
    if card:
        raise VesaliusError(
            f"the model is private ({card.claim}), and a guard compares each image with those of its "
            "patients: which images are left would depend on them, and no guarantee would cover it. "
            "Leave --guard out"
        )
