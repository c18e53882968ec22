"""`vesalius pairs`."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.commands.options import Overwrite
from vesalius.errors import VesaliusError

READING, SPLITS, SHEET = "What is read", "Splits and duplicates", "Datasheet"


def _column(what: str) -> Any:
    """Option that names a column of the source."""
    return typer.Option(help=what, show_default="a usual name", rich_help_panel=READING)


class Duplicates(StrEnum):
    """What is done about near-duplicates."""

    group = "group"
    keep = "keep"
    drop = "drop"


def pairs(
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Folders or files, each as PATH or NAME=PATH."),
    ],
    out: Annotated[Path | None, typer.Option(help="The table to write, a .parquet file.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="SOURCE is a pairs table: check it, write nothing.")
    ] = False,
    captions: Annotated[
        str | None,
        typer.Option(
            help="Prompt dictionary: a bundled name or a .yaml file.",
            show_default="the source's captions, else its labels",
        ),
    ] = None,
    reader: Annotated[
        str,
        typer.Option(
            help="auto, folders, metadata, text, parquet, datasets, webdataset, dicom, volumes or "
            "prostate.",
            rich_help_panel=READING,
        ),
    ] = "auto",
    split: Annotated[
        str,
        typer.Option(
            help="auto (the source's own, else val=0.1), own, none, or as val=0.1,test=0.2.",
            rich_help_panel=SPLITS,
        ),
    ] = "auto",
    test_rows: Annotated[
        Path | None,
        typer.Option(
            help="File of rows that lie in test, one sha1 or key a line; their groups go along.",
            rich_help_panel=SPLITS,
        ),
    ] = None,
    stratify: Annotated[
        bool, typer.Option(help="Draw the splits label by label.", rich_help_panel=SPLITS)
    ] = True,
    folds: Annotated[
        int, typer.Option(min=0, help="Add a column `fold` of so many.", rich_help_panel=SPLITS)
    ] = 0,
    shots: Annotated[
        int,
        typer.Option(min=0, help="Leave so many images a label in train.", rich_help_panel=SPLITS),
    ] = 0,
    fraction: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Leave this part of the groups in train.", rich_help_panel=SPLITS
        ),
    ] = 1,
    duplicates: Annotated[
        Duplicates,
        typer.Option(
            help="Near-duplicates: keep on one side, keep as they are, or drop copies.",
            rich_help_panel=SPLITS,
        ),
    ] = Duplicates.group,
    copy_detector: Annotated[
        str | None,
        typer.Option(
            help="Also find edited copies by this network: an .onnx file, or sscd.",
            show_default="perceptual hash only",
            rich_help_panel=SPLITS,
        ),
    ] = None,
    image_column: Annotated[str | None, _column("Column of the images or their paths.")] = None,
    caption_column: Annotated[str | None, _column("Column of the captions or reports.")] = None,
    label_column: Annotated[str | None, _column("Column of the labels.")] = None,
    group_column: Annotated[str | None, _column("Column of the patient or lesion.")] = None,
    split_column: Annotated[str | None, _column("Column of the source's own split.")] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression that finds the patient in a file's path, as in patient\\d+.",
            rich_help_panel=READING,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Leave out files like this, as in *_mask*.", rich_help_panel=READING),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            help="Grey values shown of deep images: auto, full, LOW..HIGH, or of CT lung, "
            "mediastinum, abdomen, brain, subdural, stroke, bone.",
            rich_help_panel=READING,
        ),
    ] = "auto",
    bits: Annotated[
        int, typer.Option(help="8, or 16 to keep deep images deep.", rich_help_panel=READING)
    ] = 8,
    slices: Annotated[
        str,
        typer.Option(
            help="Of volumes and series: all, middle, middle:N, every:N or FROM..TO.",
            rich_help_panel=READING,
        ),
    ] = "all",
    plane: Annotated[
        str, typer.Option(help="Of volumes: axial, coronal or sagittal.", rich_help_panel=READING)
    ] = "axial",
    series: Annotated[
        str | None,
        typer.Option(
            help="Only DICOM series whose description holds this.", rich_help_panel=READING
        ),
    ] = None,
    text_encoder: Annotated[
        str,
        typer.Option(
            help="Whose token budget is checked: a bundled name, a folder, or none.",
            rich_help_panel=SHEET,
        ),
    ] = "mini",
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="Pictures of each class in the datasheet; 0 for none at all.",
            rich_help_panel=SHEET,
        ),
    ] = 6,
    seed: Annotated[
        int, typer.Option(help="Chooses the groups of each split.", rich_help_panel=SPLITS)
    ] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Images with labels or reports to one table of image-text pairs and its datasheet."""
    from vesalius.core.terminal import image_progress, print_datasheet
    from vesalius.pairs.build import PairsOptions, build_pairs, check_pairs
    from vesalius.pairs.divide import read_marks
    from vesalius.pairs.readers import ReaderOptions

    reading = ReaderOptions(
        image_column=image_column,
        caption_column=caption_column,
        label_column=label_column,
        group_column=group_column,
        split_column=split_column,
        group_pattern=group_pattern,
        exclude=tuple(exclude or ()),
        window=window,
        bits=bits,
        slices=slices,
        plane=plane,
        series=series,
    )
    settings = PairsOptions(
        reader=reader,
        captions=captions,
        split=split,
        test=read_marks(test_rows) if test_rows else (),
        stratify=stratify,
        folds=folds,
        shots=shots,
        fraction=fraction,
        duplicates=duplicates.value,
        copy_detector=copy_detector,
        seed=seed,
        text_encoder=text_encoder,
        reading=reading,
    )
    if check and len(source) > 1:
        raise VesaliusError("--check looks at one table at a time")
    if not check and out is None:
        raise VesaliusError("give --out PAIRS.parquet, or --check to look at a table that exists")
    with image_progress("reading") as on_images:
        if check:
            document = check_pairs(
                source[0], settings, out, samples=samples, overwrite=overwrite, on_images=on_images
            )
        elif out:
            document = build_pairs(
                source,
                out,
                settings,
                samples=samples,
                strict=strict,
                overwrite=overwrite,
                command=shlex.join(["vesalius", *sys.argv[1:]]),
                on_images=on_images,
            )
    print_datasheet(document)
    if out and document.get("unchanged"):
        print(f"{out} is up to date: the sources and options are those it was made from")
    elif out and not check:
        print(f"wrote {out}: read {out.stem}.datasheet.html before you train")
    if problems := document.get("problems"):
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        what = f"{source[0] if check else out} is not fit for use: {problems[0].rstrip('.')}{more}"
        hint = (
            "" if check else "; --split val=0.1 draws another split, --duplicates keep accepts it"
        )
        raise VesaliusError(what + hint)
