"""`vesalius plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vesalius.commands.options import Overwrite, options
from vesalius.errors import VesaliusError
from vesalius.synthesize.settings import PROMPTS, PlanSettings

if TYPE_CHECKING:
    from vesalius.synthesize.make_plan import Count


def _prompts(what: str, *names: str, unset: str | bool = False) -> Any:
    return typer.Option(*names, help=what, show_default=unset, rich_help_panel=PROMPTS)


@options
def plan(
    *,
    out: Annotated[Path, typer.Option(help="The plan to write: a .csv or .parquet file.")],
    pairs: Annotated[
        Path | None,
        typer.Option(help="Pairs table whose training images are topped up.", show_default=False),
    ] = None,
    settings: PlanSettings,
    prompt: Annotated[
        list[str] | None, _prompts("Instead of --pairs: exactly this prompt.")
    ] = None,
    n: Annotated[int | None, _prompts("Images of each --prompt.", "-n", unset="1")] = None,
    label: Annotated[
        list[str] | None, _prompts("Label of the --prompt: one for all, or one for each.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Plan what `vesalius synthesize` generates: a table to edit, one row for each image."""
    from vesalius.api import plan as plan_pairs
    from vesalius.core.terminal import warn
    from vesalius.synthesize.make_plan import plan_prompts
    from vesalius.synthesize.plan import write_plan

    if prompt:
        of_pairs = {"--pairs": pairs, **settings.amount.given, "--source": settings.sources}
        of_pairs |= {"--include": settings.include, "--exclude": settings.exclude}
        of_pairs |= {"--captions": settings.captions, "--template": settings.templates}
        of_pairs |= {"--attribute": settings.attributes, "--adapter": settings.adapter}
        _check_unused("--prompt", of_pairs)
        number = 1 if n is None else n
        rows = plan_prompts(prompt, number, label or (), settings.seed, settings.rows)
        write_plan(rows, out, overwrite)
    elif pairs:
        _check_unused("--pairs", {"-n": n, "--label": label})
        made = plan_pairs(pairs, out, settings, overwrite=overwrite, on_warning=warn)
        rows = made.rows
        _print_counts(made.counts)
    else:
        raise VesaliusError("say what to plan: --pairs PAIRS, or --prompt PROMPT -n N")
    print(f"planned {len(rows):,} image{'s' * (len(rows) > 1)} in {out}")


def _check_unused(way: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value:
            raise VesaliusError(f"{name} has no use with {way}: leave out one of them")


def _print_counts(counts: "list[Count]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("class", box=None)
    for name in ("real", "planned", "after"):
        table.add_column(name, justify="right")
    for one in counts:
        after = one.real + one.planned
        table.add_row(Text(one.name), f"{one.real:,}", f"{one.planned:,}", f"{after:,}")
    real, planned = sum(one.real for one in counts), sum(one.planned for one in counts)
    table.add_row("all", f"{real:,}", f"{planned:,}", f"{real + planned:,}")
    Console(highlight=False, soft_wrap=True).print(table)
