"""`vesalius augment`."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vesalius.augment.settings import AugmentSettings
from vesalius.commands.options import options


@options
def augment(
    pairs: Annotated[Path, typer.Argument(help="The table that `vesalius pairs` wrote.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override the recipe.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder of the results; repeat the command to resume.")],
    settings: AugmentSettings,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
) -> None:
    """Fine-tune, generate, and find out whether it helps: the whole way, with one report."""
    from vesalius.core.terminal import image_progress, print_plan, say, training_progress, warn
    from vesalius.core.waiting import loading

    with loading("PyTorch", say):
        from vesalius.augment.record import REPORT
        from vesalius.augment.run import augment as run
        from vesalius.augment.run import estimate
        from vesalius.train.session import Session

    settings = replace(settings, overrides=tuple(overrides or ()))
    if dry_run:
        print_plan(estimate(pairs, out, settings).facts)
        return
    result = run(
        pairs,
        out,
        settings,
        command=shlex.join(["vesalius", *sys.argv[1:]]),
        progress=image_progress,
        session=Session("cpu", True, image_progress, training_progress, say, warn),
        on_warning=warn,
        on_step=lambda message: print(message, file=sys.stderr),
    )
    print(result.headline)
    print(f"report: {out / REPORT}")
