"""What may be asked of the whole way; what is not asked is chosen from the data (`choose.py`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from vesalius.errors import VesaliusError

Method = Literal["none", "textual-inversion", "lora", "full"]
METHODS: tuple[str, ...] = ("auto", *get_args(Method))
Tune = Literal["probe", "full"]  # of the classifiers: a linear probe, or all weights
_NO_MATTER = ("device",)  # changes speed alone, or rounding


@dataclass(frozen=True)
class Settings:
    """How the way is gone; all of it but the device must stay the same when it is gone on with."""

    model: str = "mini"
    method: str = "auto"  # or one of `Method`
    split: str | None = (
        None  # as `vesalius pairs` takes it; None: the table's own, if it has a test
    )
    where: Mapping[str, str] = field(
        default_factory=dict
    )  # column -> value, of rows that take part
    label: str = "label"  # column of the classes
    balance: bool = False  # how many images; without any of the three: see `choose.amount`
    per_class: int | None = None
    ratio: float | None = None
    images_seen: int | None = None  # length of training
    overrides: tuple[str, ...] = ()  # of the recipe, key.sub=value
    steps: int | None = None  # denoising steps; None: the model's own
    guidance: float | None = None
    backbone: str = "inception"  # of the classifiers, as all that follows but samples
    tune: Tune = "probe"
    seeds: int = 5
    arms: tuple[str, ...] = ()  # none is all that fit
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    side: int | None = None
    classifier_steps: int = 1000
    extractors: tuple[str, ...] = ("inception", "efficientnet-lite0")
    samples: int = 6  # pictures of a class in the reports
    seed: int = 0  # decides every draw
    seen: tuple[str, ...] = ()  # what the base model learned from, where it does not say
    allow_unproven: bool = False
    device: str = "auto"

    def check(self) -> None:
        """Raise VesaliusError for what makes no sense whatever the data."""
        if self.method not in METHODS:
            raise VesaliusError(f"--method {self.method!r}: choose one of {', '.join(METHODS)}")
        if self.tune not in get_args(Tune):
            raise VesaliusError(f"--tune is {self.tune!r}: {' or '.join(get_args(Tune))}")
        ways = {"--balance": self.balance, "--per-class": self.per_class, "--ratio": self.ratio}
        given = [name for name, value in ways.items() if value not in (None, False)]
        if len(given) > 1:
            raise VesaliusError(f"{' and '.join(given)} exclude each other: give one of them")
        if self.images_seen is not None and self.images_seen < 8:
            raise VesaliusError(f"--images-seen is {self.images_seen}: give 8 or more")
        if self.method == "none" and (self.images_seen or self.overrides):
            raise VesaliusError(
                "--method none trains nothing: leave out --images-seen and the recipe's values"
            )
        if self.samples < 0:
            raise VesaliusError(f"--samples is {self.samples}: give 0 or more")

    def deciding(self) -> dict[str, Any]:
        """All that decides what comes out, as JSON."""
        told = {name: value for name, value in asdict(self).items() if name not in _NO_MATTER}
        return {
            name: dict(value)
            if isinstance(value, Mapping)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in told.items()
        }
