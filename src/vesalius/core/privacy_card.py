"""The card of a private model: what is guaranteed, for whom, and what is not. It lies beside the model.

`privacy.json` and, for people, `privacy.md` are written where a model is trained; sets that are made
with it carry the card on.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vesalius.core.atomic import atomic_path
from vesalius.core.documents import read_json
from vesalius.errors import VesaliusError

CARD, READABLE = "privacy.json", "privacy.md"
NO_ROWS = (
    "private model: no rows named"  # what is said where a list of training images is looked for
)

PUBLIC = (
    "the base model",
    "its autoencoder",
    "the prompt dictionary",
    "the splits",
    "the number of patients",
    "the recipe",
)
NOT_COVERED = (
    "patients of the validation and test splits",
    "the choice of the recipe's values, where other trainings were looked at (see runs)",
    "figures of reports that were measured on real patients",
)
RANDOMNESS = "no cryptographically secure random numbers, no hardening of floating-point sums"


@dataclass(frozen=True)
class Audit:
    """What an attack has shown of the claim."""

    lower_bound: float
    confidence: float
    canaries: int
    ceiling: float  # more could not have been shown
    claim: float | None  # None: no guarantee is claimed


@dataclass(frozen=True)
class PrivacyCard:
    """(epsilon, delta) of each patient, and all that it rests on. An epsilon of None is no guarantee."""

    epsilon: float | None  # by the accountant, for all declared trainings together
    delta: float
    patients: int  # n
    mechanism: str
    sigma: float  # of the noise, in units of the clip norm
    rate: float  # q: the chance that a patient is drawn in a step
    steps: int  # T, of one training
    runs: int  # trainings that are counted
    clip_norm: float  # C
    patients_per_step: float  # B, which a sum is divided by
    images_per_patient: int  # m, at most; 0: all
    noise_draws: int  # K
    dimensions: int  # of what the noise is added to
    accountant: str
    epsilon_pld: float | None
    epsilon_rdp: float | None
    weights: str  # which come out: the last, or their average
    unit: str = "patient"
    neighbours: str = "zero_out"
    public: tuple[str, ...] = PUBLIC
    not_covered: tuple[str, ...] = NOT_COVERED
    randomness: str = RANDOMNESS
    audit: Audit | None = None

    @property
    def claim(self) -> str:
        """In a few words."""
        if self.epsilon is None:
            return "no privacy guarantee: trained without noise"
        return f"epsilon {self.epsilon:.3g} at delta {self.delta:.2g} for each patient"

    def as_dict(self) -> dict[str, Any]:
        """As in privacy.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PrivacyCard":
        """Of `as_dict`. Raises VesaliusError where it is none."""
        try:
            known: dict[str, Any] = {field.name: values[field.name] for field in fields(cls)}
            audit = known.pop("audit")
            known |= {name: tuple(known[name]) for name in ("public", "not_covered")}
            card = cls(**known, audit=Audit(**audit) if audit else None)
            _ = f"{card.claim} {card.delta:g}"
        except (KeyError, TypeError, ValueError) as error:
            raise VesaliusError(
                f"a privacy card is damaged ({error!r}): take {CARD} from the training's own folder"
            ) from error
        return card

    def lines(self) -> list[tuple[str, str]]:
        """The card as names and values in words, for people."""
        noise = f"sigma {self.sigma:.4g} times the clip norm {self.clip_norm:g}"
        images = f"at most {self.images_per_patient}" if self.images_per_patient else "all"
        rdp = "none" if self.epsilon_rdp is None else f"{self.epsilon_rdp:.4g}"
        pld = "none" if self.epsilon_pld is None else f"{self.epsilon_pld:.4g}"
        audit = "none was made"
        if self.audit:
            claim = self.audit.claim
            said = "no claim" if claim is None else f"a claim of {claim:.2f}"
            audit = (
                f"epsilon of this training is at least {self.audit.lower_bound:.2f} with "
                f"{self.audit.confidence:.0%} confidence, by {self.audit.canaries:,} canaries, of "
                f"{said}; more than {self.audit.ceiling:.2f} could not have been shown"
            )
        return [
            ("guarantee", self.claim),
            ("unit", f"a {self.unit}, with all images, among {self.patients:,}"),
            ("neighbours", f"{self.neighbours}: one patient's contribution becomes zero"),
            ("mechanism", self.mechanism),
            ("noise", f"{noise}, over {self.dimensions:,} numbers, divided by B"),
            (
                "sampling",
                f"q {self.rate:.4g}, B {self.patients_per_step:g}, T {self.steps:,} steps",
            ),
            ("trainings counted", f"{self.runs}"),
            ("a patient's share", f"{images} images, each noised {self.noise_draws} times"),
            ("accountant", f"{self.accountant}: epsilon {pld} by PLD, {rdp} by RDP"),
            ("weights that come out", self.weights),
            ("public by assumption", ", ".join(self.public)),
            ("not covered", "; ".join(self.not_covered)),
            ("audit", audit),
            ("random numbers", self.randomness),
        ]

    def write(self, folder: Path) -> None:
        """Write `folder`/privacy.json and privacy.md."""
        with atomic_path(folder / CARD) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=2) + "\n", "utf-8")
        rows = "".join(f"| {name} | {value} |\n" for name, value in self.lines())
        meaning = (
            "Whatever anybody learns from this model, and from anything made with it alone, is at most "
            "e^epsilon times likelier than if this patient's images had counted for nothing, but for "
            "the chance delta.\n"
            if self.epsilon is not None
            else "This model was trained for comparison, without noise. It may contain its patients.\n"
        )
        text = f"# Privacy of this model\n\n{self.claim[0].upper()}{self.claim[1:]}.\n\n{meaning}\n"
        with atomic_path(folder / READABLE) as temporary:
            temporary.write_text(f"{text}| | |\n|---|---|\n{rows}", "utf-8")


def read_card(folder: Path) -> PrivacyCard | None:
    """The card in a model's or adapter's folder; None where there is none.

    Raises VesaliusError for one that is damaged.
    """
    path = folder / CARD
    return PrivacyCard.from_dict(read_json(path)) if path.is_file() else None


def cards_of_set(about: Mapping[str, Any]) -> list[PrivacyCard]:
    """The cards of the model and adapters behind a synthetic set, by its about.json.

    Raises VesaliusError for one that is damaged.
    """
    known = about.get("privacy") or {}
    found = [known.get("model"), *(known.get("adapters") or [])]
    return [PrivacyCard.from_dict(card) for card in found if card]
