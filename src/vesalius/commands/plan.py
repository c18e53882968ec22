"""`vesalius plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vesalius.commands.options import Overwrite
from vesalius.errors import VesaliusError

if TYPE_CHECKING:
    from vesalius.synthesize.make_plan import Count

AMOUNT, CLASSES, PROMPTS = "How many, of real classes", "Which classes", "What is said"
ROWS = "The same for all rows"


def _of(panel: str, what: str, *names: str, unset: str | bool = False) -> Any:
    """Option in a panel of the help."""
    return typer.Option(*names, help=what, show_default=unset, rich_help_panel=panel)


def plan(
    out: Annotated[Path, typer.Option(help="The plan to write: a .csv or .parquet file.")],
    pairs: Annotated[
        Path | None,
        typer.Option(help="Pairs table whose training images are topped up.", show_default=False),
    ] = None,
    balance: Annotated[
        bool, _of(AMOUNT, "Top up every class to the largest one.", "--balance")
    ] = False,
    per_class: Annotated[int | None, _of(AMOUNT, "So many of each class.")] = None,
    ratio: Annotated[float | None, _of(AMOUNT, "So many times each class's real images.")] = None,
    total: Annotated[int | None, _of(AMOUNT, "So many in all.")] = None,
    share: Annotated[
        str, _of(AMOUNT, "Of --total: real (in real proportions) or even.", unset=True)
    ] = "real",
    source: Annotated[list[str] | None, _of(CLASSES, "Only this source.", unset="all")] = None,
    include: Annotated[
        list[str] | None, _of(CLASSES, "Only this label: LABEL or SOURCE/LABEL.", unset="all")
    ] = None,
    exclude: Annotated[list[str] | None, _of(CLASSES, "All but this label.", unset="none")] = None,
    prompts: Annotated[
        str | None,
        _of(
            PROMPTS,
            "captions: those of the real images; dictionary: composed by --captions.",
            unset="captions, without --captions or --template",
        ),
    ] = None,
    captions: Annotated[
        str | None, _of(PROMPTS, "Prompt dictionary: a bundled name or a .yaml file.")
    ] = None,
    template: Annotated[
        list[str] | None,
        _of(PROMPTS, "Prompts like this: 'a photo of <tb>, {label}', {braces} name a column."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        _of(
            PROMPTS, "Set an attribute: age=60; sex=female,male take turns.", unset="as in reality"
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None, _of(PROMPTS, "Instead of --pairs: exactly this prompt.")
    ] = None,
    n: Annotated[int | None, _of(PROMPTS, "Images of each --prompt.", "-n", unset="1")] = None,
    label: Annotated[
        list[str] | None, _of(PROMPTS, "Label of the --prompt: one for all, or one for each.")
    ] = None,
    steps: Annotated[int | None, _of(ROWS, "Denoising steps.", unset="the model's own")] = None,
    guidance: Annotated[
        float | None, _of(ROWS, "Guidance scale; 1 is none.", unset="the model's own")
    ] = None,
    sampler: Annotated[
        str | None, _of(ROWS, "As of `vesalius generate`.", unset="the model's own")
    ] = None,
    size: Annotated[
        str | None, _of(ROWS, "Pixels: 256, or 384x256.", unset="the model's own")
    ] = None,
    negative: Annotated[str, _of(ROWS, "What to move away from.")] = "",
    model: Annotated[
        str | None, _of(ROWS, "The only model that may carry out this plan.", unset="any")
    ] = None,
    seed: Annotated[int, typer.Option(help="What all rows' prompts and seeds follow from.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """What to generate, one row an image, for `vesalius synthesize`: a table to read and edit."""
    from vesalius.core.atomic import writable_new_file
    from vesalius.core.terminal import warn
    from vesalius.synthesize.make_plan import plan_from_pairs, plan_prompts, row_settings
    from vesalius.synthesize.plan import write_plan
    from vesalius.synthesize.plan_file import suffix_of
    from vesalius.synthesize.plan_prompts import parse_attributes

    suffix_of(writable_new_file(out, overwrite=overwrite))
    settings = row_settings(
        negative=negative,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        size=size,
        model=model,
    )
    _check_prompts(prompts, captions, template)
    of_pairs = {"--balance": balance, "--per-class": per_class, "--ratio": ratio}
    of_pairs |= {"--total": total, "--source": source, "--include": include, "--exclude": exclude}
    of_pairs |= {"--captions": captions, "--template": template, "--attribute": attribute}
    if prompt:
        _check_unused("--prompt", {"--pairs": pairs} | of_pairs)
        rows = plan_prompts(
            prompt, 1 if n is None else n, labels=label or (), seed=seed, settings=settings
        )
        write_plan(rows, out, overwrite)
    elif pairs:
        _check_unused("--pairs", {"-n": n, "--label": label})
        rows, counts = plan_from_pairs(
            pairs,
            sources=source or (),
            include=include or (),
            exclude=exclude or (),
            captions=captions,
            templates=template or (),
            attributes=parse_attributes(attribute or ()),
            seed=seed,
            settings=settings,
            on_warning=warn,
            balance=balance,
            per_class=per_class,
            ratio=ratio,
            total=total,
            share=share,
        )
        write_plan(rows, out, overwrite)
        _print_counts(counts)
    else:
        raise VesaliusError("say what to plan: --pairs PAIRS, or --prompt PROMPT -n N")
    print(f"planned {len(rows):,} image{'s' * (len(rows) > 1)} in {out}")


def _check_prompts(prompts: str | None, captions: str | None, template: list[str] | None) -> None:
    if prompts not in (None, "captions", "dictionary"):
        raise VesaliusError(f"--prompts {prompts!r}: choose one of captions, dictionary")
    if prompts == "dictionary" and not captions:
        raise VesaliusError("--prompts dictionary needs --captions, a bundled name or a .yaml file")
    if prompts == "captions" and (captions or template):
        raise VesaliusError("--prompts captions takes the real ones: leave out the other prompts")


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
