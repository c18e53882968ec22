"""How a stage's settings are described once, for the API and for the command line.

    @dataclass(frozen=True)
    class Settings:
        steps: Annotated[int | None, Help("Denoising steps.", unset="the model's own")] = None

The command line makes an option of each field (`commands/options.py`): the name gives the flag, the type
the parser, the default the default. A room's settings lie in its `settings.py`, which imports no torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Help:
    """What the command line says of a field, and how the option is written where its name does not say."""

    text: str
    flags: tuple[str, ...] = ()  # such as ("--guard/--no-guard",) or ("--number", "-n")
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    panel: str | None = None  # the heading under which `--help` lists it
    unset: str | None = None  # what an empty default means, such as "the model's own" or "all"
    commas: bool = False  # a tuple of texts is one option, "a,b"; else the option is repeated
