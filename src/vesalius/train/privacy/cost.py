"""What epsilon costs on a table: sigma and the noise over the signal, before anybody waits."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from vesalius.config import Guarantee, PrivacySettings
from vesalius.statistics.privacy_audit import one_run_ceiling
from vesalius.train.estimate import Estimate
from vesalius.train.privacy.accountant import Mechanism, calibrated, noise_over_signal

EPSILONS = (1.0, 3.0, 8.0, 10.0)  # beside the recipe's own
TOO_LOUD = 10.0  # noise over signal, above which little can be learnt
FEW_PATIENTS = 1000  # below them aggregated embeddings are offered


@dataclass(frozen=True)
class Cost:
    """One line of the table."""

    epsilon: float
    mechanism: Mechanism
    noise_over_signal: float


@dataclass(frozen=True)
class PrivacyCost:
    """What each epsilon costs with so many patients, and what the recipe's own does."""

    patients: int
    delta: float
    dimensions: int
    lines: tuple[Cost, ...]
    own: float | None  # the recipe's epsilon; None: no noise
    aggregated: tuple[float, float] | None  # of one vector by dp-aggregate: its numbers, the ratio
    canaries: int = 0  # of the recipe's audit

    def __str__(self) -> str:
        head = (
            f"privacy of {self.patients:,} patients at delta {self.delta:.2g}, noise on "
            f"{self.dimensions:,} numbers:"
        )
        rows = [f"  {'epsilon':>8}{'sigma':>9}{'q':>8}{'T':>8}{'noise over signal':>20}"]
        for line in self.lines:
            found = line.mechanism
            mark = "  this recipe" if line.epsilon == self.own else ""
            rows.append(
                f"  {line.epsilon:>8g}{found.sigma:>9.3g}{found.rate:>8.3g}{found.steps:>8,}"
                f"{line.noise_over_signal:>20.2g}{mark}"
            )
        return "\n".join([head, *rows, *(f"  {text}" for text in self.advice())])

    def advice(self) -> list[str]:
        """What to mind, in sentences."""
        said = []
        if self.canaries:
            ceiling = one_run_ceiling(self.canaries, self.delta)
            text = f"audit by {self.canaries:,} canaries: it can show an epsilon of {ceiling:.2g} at most"
            low = self.own is not None and ceiling < self.own
            said.append(text + "; more of them, or a smaller delta, raise that" * low)
        if self.own is None:
            none = "privacy.epsilon is null: no noise is added, and nothing is guaranteed"
            return [*said, none]
        found = next(line for line in self.lines if line.epsilon == self.own)
        if found.noise_over_signal > TOO_LOUD:
            said.append(
                f"warning: the noise is {found.noise_over_signal:.0f} times the largest signal: take "
                "fewer numbers (lora.rank, embedding.vectors), more patients_per_step, or a larger epsilon"
            )
        if self.aggregated and self.patients < FEW_PATIENTS:
            size, ratio = self.aggregated
            said.append(
                f"{self.patients:,} patients are few: `vesalius train dp-aggregate` adds noise once, "
                f"{ratio:.2g} times the signal for one word of {size:,} numbers at epsilon {self.own:g}"
            )
        return said


def cost_of(
    privacy: Guarantee, patients: int, delta: float, dimensions: int, width: int
) -> PrivacyCost:
    """The table for a recipe's part; `width` is that of a word of the base model.

    Raises VesaliusError where dp-accounting is missing.
    """
    rate, steps, divisor, aggregated = 1.0, 1, float(patients), None
    if isinstance(privacy, PrivacySettings):
        divisor = float(privacy.patients_per_step)
        rate, steps = divisor / patients, privacy.steps
        if privacy.epsilon is not None:
            once = calibrated(1.0, privacy.runs, privacy.epsilon, delta)
            aggregated = (width, noise_over_signal(once, width, patients))
    lines = []
    own: set[float] = {privacy.epsilon} if privacy.epsilon is not None else set()
    for epsilon in sorted({*EPSILONS} | own):
        found = replace(calibrated(rate, steps * privacy.runs, epsilon, delta), steps=steps)
        lines.append(Cost(epsilon, found, noise_over_signal(found, dimensions, divisor)))
    return PrivacyCost(
        patients, delta, dimensions, tuple(lines), privacy.epsilon, aggregated, privacy.canaries
    )


@dataclass(frozen=True, repr=False)
class PrivateEstimate(Estimate):
    """An estimate with the table of what epsilon costs."""

    privacy: PrivacyCost | None = None  # None: the base model, which decides it, is not here
    inverted: int | None = None  # patients, for each of whom the length is

    @classmethod
    def of(
        cls, plain: Estimate, privacy: PrivacyCost | None, inverted: int | None
    ) -> "PrivateEstimate":
        """A plain estimate with the table."""
        known = {f.name: getattr(plain, f.name) for f in fields(plain)}
        return cls(**known, privacy=privacy, inverted=inverted)

    def lines(self, out: Path | None = None) -> dict[str, str]:
        """As of any training, and for how many patients the length is."""
        found = super().lines(out)
        if self.inverted is not None:
            once = found["length"].rpartition(", ")[0]
            found["length"] = f"{once}, for each of {self.inverted:,} patients"
        return found

    def text(self, out: Path | None = None) -> str:
        plain = super().text(out)
        return plain if self.privacy is None else f"{plain}\n{self.privacy}"
