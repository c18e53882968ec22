"""The command line: one thin command a stage, each parsing, calling the API and printing.

Nothing heavy is imported at the top of this file: `vesalius --help` must answer at once.
"""

import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vesalius import __version__
from vesalius.errors import VesaliusError


class _Commands(TyperGroup):
    """Commands whose expected failures are one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VesaliusError as error:
            _stop(f"error: {error}", 2)
        except KeyboardInterrupt as interrupt:  # training says what it saved
            _stop(str(interrupt) or "interrupted: nothing was written", 130)


def _stop(message: str, code: int) -> NoReturn:
    # one line even where a library's own message, quoted in ours, had several
    print(" ".join(message.split()), file=sys.stderr)
    raise typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Medical images from text, and the evidence that they can be trusted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"vesalius {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Medical images from text, and the evidence that they can be trusted."""


Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output.")]
READING, SPLITS, SHEET = "What is read", "Splits and duplicates", "Datasheet"


def _column(what: str) -> Any:
    """Option that names a column of the source."""
    return typer.Option(help=what, show_default="a usual name", rich_help_panel=READING)


class Duplicates(StrEnum):
    """What is done about near-duplicates."""

    group = "group"
    keep = "keep"
    drop = "drop"


@app.command()
def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="What to draw.")],
    n: Annotated[int, typer.Option("-n", help="Images for each prompt.")] = 1,
    model: Annotated[
        str, typer.Option(help="A bundled name, a folder in diffusers layout, or a hub id.")
    ] = "mini",
    seed: Annotated[int, typer.Option(help="Image k of the run is drawn from seed + k.")] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Denoising steps.", show_default="the model's own")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="How closely to follow the prompt; 1 is no guidance.",
            show_default="the model's own",
        ),
    ] = None,
    negative: Annotated[str, typer.Option(help="What to move away from.")] = "",
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels: 256, or width x height: 384x256.", show_default="the model's own"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="New folder for the images.")] = Path("vesalius-out"),
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images denoised at once.", show_default="4 on a CPU, else 8"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Text to images: PNGs that carry their provenance, manifest.jsonl, contact-sheet.png."""
    from vesalius.io.terminal import image_progress, warn
    from vesalius.sample.folder import generate_to_folder

    with image_progress() as on_progress:
        rows = generate_to_folder(
            prompts,
            out,
            model=model,
            device=device,
            dtype=dtype,
            n=n,
            seed=seed,
            steps=steps,
            guidance=guidance,
            negative=negative,
            size=size,
            batch_size=batch_size,
            overwrite=overwrite,
            on_progress=on_progress,
            on_warning=warn,
        )
    print(f"{len(rows)} synthetic image{'s' * (len(rows) > 1)} in {out}: see contact-sheet.png")


@app.command()
def info() -> None:
    """What this machine and this installation can do."""
    from vesalius.info import describe
    from vesalius.io.terminal import print_info

    print_info(describe())


@app.command()
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
    from vesalius.data.build import PairsOptions, build_pairs, check_pairs
    from vesalius.data.readers import ReaderOptions
    from vesalius.io.terminal import image_progress, print_datasheet

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
    if not check and out is None:
        raise VesaliusError("give --out PAIRS.parquet, or --check to look at a table that exists")
    with image_progress("reading") as on_images:
        if check:
            document = check_pairs(source[0], settings, out, samples=samples, on_images=on_images)
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


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A bundled name or a .yaml file.")],
    pairs: Annotated[Path, typer.Option(help="The table that `vesalius pairs` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained; touch nothing.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train a generator as a recipe says; OUT/generator is the result."""
    from vesalius.config import load_recipe
    from vesalius.io.terminal import print_plan
    from vesalius.models.device import pick_device
    from vesalius.train.scratch import plan, train_from_scratch

    settings, place = load_recipe(recipe, overrides), pick_device(device)
    if dry_run:
        print_plan(plan(settings, pairs))
        return
    folder = train_from_scratch(settings, pairs, out, device=str(place), resume=resume)
    print(f"trained: vesalius generate PROMPT --model {folder}")


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input, 130 interrupted."""
    # A job manager's SIGTERM then cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except KeyboardInterrupt:  # before a command had begun
        print("interrupted: nothing was written", file=sys.stderr)
        sys.exit(130)
