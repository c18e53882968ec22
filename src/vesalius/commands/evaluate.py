"""`vesalius evaluate`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.named_sets import named_sets
from vesalius.commands.options import options
from vesalius.errors import VesaliusError
from vesalius.evaluate.settings import EvaluateSettings


@options
def evaluate(
    real: Annotated[
        Path, typer.Option(help="Real images: a pairs table, or whatever `vesalius pairs` reads.")
    ],
    synthetic: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]SET", help="Synthetic images: a folder or table; may be repeated."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and report.html.")],
    settings: EvaluateSettings,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 where the comparison is unfair.")
    ] = False,
) -> None:
    """Measure fidelity, diversity, alignment, privacy and cost: metrics.json and report.html."""
    from vesalius.core.terminal import image_progress, say, warn
    from vesalius.core.waiting import loading

    with loading("PyTorch", say):
        from vesalius.evaluate.run import REPORT
        from vesalius.evaluate.run import evaluate as evaluate_sets

    found = evaluate_sets(
        real,
        named_sets(synthetic),
        out,
        settings,
        command=shlex.join(["vesalius", *sys.argv[1:]]),
        progress=image_progress,
        on_warning=warn,
    )
    for line in found.lines:
        print(line)
    print(f"wrote {out / REPORT}")
    if strict and found.unfair:
        raise VesaliusError(f"the comparison is unfair: the first lines of {out / REPORT} say why")
