"""`vesalius pairs`."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Overwrite, options
from vesalius.errors import VesaliusError
from vesalius.pairs.settings import SHEET, SPLITS, PairsSettings


@options
def pairs(
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Folders or files, each as PATH or NAME=PATH."),
    ],
    *,
    out: Annotated[Path | None, typer.Option(help="The table to write, a .parquet file.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="SOURCE is a pairs table: check it, write nothing.")
    ] = False,
    settings: PairsSettings,
    test_rows: Annotated[
        Path | None,
        typer.Option(
            help="File of rows that must be in test, one sha1 or key a line, with their groups.",
            rich_help_panel=SPLITS,
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="Pictures of each class in the datasheet; 0 for none at all.",
            rich_help_panel=SHEET,
        ),
    ] = 6,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn images with labels or reports into one table of image-text pairs, with a datasheet."""
    from vesalius.core.terminal import image_progress, print_datasheet
    from vesalius.pairs.build import build_pairs, check_pairs
    from vesalius.pairs.divide import read_marks
    from vesalius.pairs.slips import fuller_captions

    if check and len(source) > 1:
        raise VesaliusError("--check looks at one table at a time")
    target = out or Path()
    if not check and out is None:
        raise VesaliusError("give --out PAIRS.parquet, or --check to look at a table that exists")
    if test_rows:
        settings = replace(settings, test=read_marks(test_rows))
    with image_progress("reading") as on_images:
        if check:
            built = check_pairs(
                source[0], settings, out, samples=samples, overwrite=overwrite, on_images=on_images
            )
        else:
            built = build_pairs(
                source,
                target,
                settings,
                samples=samples,
                strict=strict,
                overwrite=overwrite,
                command=shlex.join(["vesalius", *sys.argv[1:]]),
                on_images=on_images,
            )
    print_datasheet(built.datasheet)
    if out and built.unchanged:
        print(f"{out} is up to date: the sources and options are those it was made from")
    elif out and not check:
        print(f"wrote {out}: read {out.with_suffix('.datasheet.html')} before you train")
    if not check and (hint := fuller_captions(built.datasheet)):
        print(hint)
    if problems := built.problems:
        first, *others = problems
        more = f", and {len(others)} more" if others else ""
        what = f"{source[0] if check else out} is not fit for use: {first.rstrip('.')}{more}"
        hint = "; --split val=0.1 draws another split, --duplicates keep accepts it"
        raise VesaliusError(what if check else what + hint)
