"""A way of sampling, written in one word: `dpm++2m:10@2[0-0.8]~0.7`."""

import re
from dataclasses import dataclass
from typing import Any

from vesalius.errors import VesaliusError
from vesalius.sample.samplers import check_sampler

_NUMBER = r"(\d+\.?\d*|\.\d+)"
_PATTERN = re.compile(
    rf"(?P<name>[^:@\[~]+):(?P<steps>\d+(,\d+)*)(@(?P<scale>{_NUMBER}))?"
    rf"(\[(?P<first>{_NUMBER})-(?P<last>{_NUMBER})\])?(~(?P<rescale>{_NUMBER}))?"
)


@dataclass(frozen=True)
class Case:
    """One way of sampling; what is None is the model's own."""

    sampler: str  # empty: the model's own
    steps: int
    scale: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    @property
    def series(self) -> str:
        """What cases that differ in their steps alone have in common: a line of the plot."""
        text = self.sampler or "own"
        text += "" if self.scale is None else f" @{self.scale:g}"
        text += "" if self.interval == (0.0, 1.0) else " [{:g}-{:g}]".format(*self.interval)
        return text + (f" ~{self.rescale:g}" if self.rescale else "")

    @property
    def name(self) -> str:
        """The case as it is written on the command line."""
        sampler, *rest = self.series.split()
        return f"{sampler}:{self.steps}" + "".join(rest)

    @property
    def calls(self) -> int:
        """Calls of the denoiser an image."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    @property
    def options(self) -> dict[str, Any]:
        """The case as options of `TextToImage.stream`."""
        return {
            "sampler": self.sampler,
            "steps": self.steps,
            "guidance": self.scale,
            "guidance_interval": self.interval,
            "guidance_rescale": self.rescale,
        }


def parse_cases(text: str) -> list[Case]:
    """`SAMPLER:STEPS[,STEPS...][@GUIDANCE][[FIRST-LAST]][~RESCALE]`, one case for each of the steps.

    SAMPLER is a name of `vesalius.sample.samplers.NAMES`, or `own` for the model's.
    Raises VesaliusError for anything else.
    """
    found = _PATTERN.fullmatch(text)
    if not found:
        raise VesaliusError(f"{text!r} is not a case: write it like dpm++2m:4,10@2[0-0.8]~0.7")
    sampler = "" if found["name"] == "own" else found["name"]
    check_sampler(sampler)
    scale = None if found["scale"] is None else float(found["scale"])
    interval = (float(found["first"] or 0), float(found["last"] or 1))
    rescale = float(found["rescale"] or 0)
    steps = [int(count) for count in found["steps"].split(",")]
    return [Case(sampler, count, scale, interval, rescale) for count in steps]
