"""`vesalius utility`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import options
from vesalius.utility.settings import UtilitySettings


@options
def utility(
    real: Annotated[Path, typer.Option(help="Pairs table of real images.")],
    synthetic: Annotated[
        list[Path],
        typer.Option(
            help="Synthetic set with manifest.jsonl; several, such as one a class, are taken "
            "together; with --folds one a fold."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for results.json and report.html.")],
    settings: UtilitySettings,
) -> None:
    """Find out whether synthetic images make a classifier better: arms, tests and a report."""
    from vesalius.core.terminal import image_progress, say, warn
    from vesalius.core.waiting import loading

    with loading("PyTorch", say):
        from vesalius.utility.outputs import REPORT
        from vesalius.utility.run import utility as run

    result = run(
        real,
        synthetic,
        out,
        settings,
        command=shlex.join(["vesalius", *sys.argv[1:]]),
        progress=image_progress,
        on_warning=warn,
    )
    print(result.verdict.headline)
    print(f"report: {out / REPORT}")
