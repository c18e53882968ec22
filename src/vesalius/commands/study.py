"""`vesalius study`: a blinded reader study, from the images to the results."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.named_sets import named_sets
from vesalius.commands.options import options
from vesalius.study.settings import BuildSettings, CheckSettings, LockSettings, PowerSettings
from vesalius.web.settings import ServerSettings, need_server

Unfinished = Annotated[
    bool,
    typer.Option(
        "--unfinished", help="Before all readers have finished; recorded, and stated in the report."
    ),
]
Study = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")]

study = typer.Typer(
    no_args_is_help=True,
    help="A blinded reader study: can experts tell synthetic images from real ones?",
)


@study.command()
@options
def build(
    real: Annotated[Path, typer.Option(help="Pairs table of real images.")],
    synthetic: Annotated[
        list[str],
        typer.Option(metavar="[NAME=]SET", help="Synthetic images; each set is an arm."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the study.")],
    settings: BuildSettings,
) -> None:
    """Draw, match and equalise images; lay out every reader's trials."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.study.build import build as run

    sets = named_sets(synthetic)
    print(run(real, sets, out, settings, progress=image_progress, on_warning=warn))


@study.command()
@options
def check(folder: Study, settings: CheckSettings) -> None:
    """Check whether a machine can tell the arms apart by anything but the picture."""
    from vesalius.study.check import check as run

    print(run(folder, settings))


@study.command()
@options
def power(
    settings: PowerSettings,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY]", help="Folder of the study; without one, any study."),
    ] = None,
) -> None:
    """Compute what a number of readers and cases can show."""
    from vesalius.core.terminal import image_progress
    from vesalius.study.power import power as run

    print(run(folder, settings, progress=image_progress))


@study.command()
@options
def lock(folder: Study, settings: LockSettings) -> None:
    """Fix protocol, images and key before the first answer; write preregistration.md."""
    from vesalius.core.terminal import warn
    from vesalius.study.lock import lock as run

    print(run(folder, settings, on_warning=warn))


@study.command()
@options
def serve(
    folder: Study,
    settings: ServerSettings,
    new_link: Annotated[
        str | None,
        typer.Option(metavar="READER", help="Make a new link for this reader, and end."),
    ] = None,
) -> None:
    """Let readers read, each by a link of their own."""
    need_server()
    from vesalius.study.server.serve import renew_link
    from vesalius.study.server.serve import serve as run

    if new_link:
        print(renew_link(folder, new_link, settings))
    else:
        run(folder, settings, on_ready=lambda ready: print(ready, flush=True))


@study.command()
@options
def status(folder: Study) -> None:
    """How far each reader is, without any answer."""
    from vesalius.study.progress import status as run

    print(run(folder))


@study.command()
@options
def export(folder: Study, unfinished: Unfinished = False) -> None:
    """Answers joined with the key, as CSV files."""
    from vesalius.core.terminal import warn
    from vesalius.study.export import export as run

    print(run(folder, unfinished=unfinished, on_warning=warn))


@study.command()
@options
def analyse(folder: Study, unfinished: Unfinished = False) -> None:
    """Results with intervals over readers and cases, and a report."""
    from vesalius.core.terminal import warn
    from vesalius.study.analyse import analyse as run

    command = shlex.join(["vesalius", *sys.argv[1:]])
    results = run(folder, unfinished=unfinished, command=command, on_warning=warn)
    for sentence in results:
        if sentence.status != "warning":
            print(f"{sentence.task + ': ' if sentence.task else ''}{sentence.message}")
    print(f"report: {results.report}")
