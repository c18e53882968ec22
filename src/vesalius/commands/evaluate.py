"""`vesalius evaluate`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vesalius.commands.options import Device, Overwrite
from vesalius.errors import VesaliusError

if TYPE_CHECKING:
    from vesalius.evaluate.model_itself import Subject

MODEL, FIGURES = "The model itself", "Figures"


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
    train: Annotated[
        Path | None,
        typer.Option(
            help="What the generator learned from: a table, or training_rows.json of a run.",
            show_default="split train of --real",
        ),
    ] = None,
    extractors: Annotated[
        str,
        typer.Option(help="Networks, with commas: inception, rad-dino, sscd, timm:NAME, ..."),
    ] = "inception,efficientnet-lite0",
    store: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps features, for any run.", show_default="OUT/features"),
    ] = None,
    by: Annotated[
        str,
        typer.Option(help="Column that tells classes apart.", rich_help_panel=FIGURES),
    ] = "label",
    only: Annotated[
        str | None,
        typer.Option(
            help="Parts, with commas: fidelity, diversity, alignment, privacy, membership, cost.",
            show_default="all",
            rich_help_panel=FIGURES,
        ),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(
            help="Cut all images to squares of so many pixels.",
            show_default="that of the synthetic images, where they are squares of one size",
            rich_help_panel=FIGURES,
        ),
    ] = None,
    match: Annotated[
        bool,
        typer.Option(
            "--match",
            help="Compare with as many real images of each class as are synthetic.",
            rich_help_panel=FIGURES,
        ),
    ] = False,
    clip: Annotated[
        str | None,
        typer.Option(
            help="CLIP for CLIPScore: hub id or folder.",
            show_default="none",
            rich_help_panel=FIGURES,
        ),
    ] = None,
    vqa: Annotated[
        str | None,
        typer.Option(
            help="Vision-language model for VQAScore: hub id or folder.",
            show_default="none",
            rich_help_panel=FIGURES,
        ),
    ] = None,
    replicates: Annotated[
        int, typer.Option(help="Replicates of each interval.", rich_help_panel=FIGURES)
    ] = 200,
    seed: Annotated[int, typer.Option(help="Decides every draw.", rich_help_panel=FIGURES)] = 0,
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="Pictures of each class in the report; 0 for none at all.",
            rich_help_panel=FIGURES,
        ),
    ] = 6,
    chexgenbench: Annotated[
        bool,
        typer.Option("--chexgenbench", help="A table in its shape, too.", rich_help_panel=FIGURES),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="The generator, for membership inference and cost.",
            show_default="none",
            rich_help_panel=MODEL,
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Its LoRA or textual inversion, as FILE or FILE:WEIGHT; may be repeated.",
            show_default="none",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: Device = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 where the comparison is unfair.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Fidelity, diversity, alignment, privacy and cost: metrics.json and report.html."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.evaluate.run import REPORT, Settings
    from vesalius.evaluate.run import evaluate as evaluate_sets
    from vesalius.statistics.record import PARTS

    if adapter and not model:
        raise VesaliusError("--adapter needs the model that it is for: name it by --model")
    settings = Settings(
        extractors=_names(extractors),
        by=by,
        only=_names(only) if only else PARTS,
        side=side,
        match=match,
        clip=clip,
        vqa=vqa,
        replicates=replicates,
        seed=seed,
        device=device,
        samples=samples,
        chexgenbench=chexgenbench,
    )
    document = evaluate_sets(
        real,
        _named_sets(synthetic),
        out,
        settings,
        train=train,
        store=store,
        subject=_subject(model, adapter or [], device) if model else None,
        overwrite=overwrite,
        command=shlex.join(["vesalius", *sys.argv[1:]]),
        progress=image_progress,
        on_warning=warn,
    )
    several = len(document["sets"]) > 1
    for name, said in document["summary"].items():
        for kind in ("good", "bad", "unknown"):
            for sentence in said[kind]:
                print(f"{name + ', ' if several else ''}{kind}: {sentence}")
    print(f"wrote {out / REPORT}")
    if strict and document["unfair"]:
        raise VesaliusError(f"the comparison is unfair: the first lines of {out / REPORT} say why")


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _named_sets(texts: list[str]) -> dict[str, Path]:
    """NAME=PATH, or PATH whose last part is the name."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            name, path = Path(text).absolute().stem, text
        if not name or not path:
            raise VesaliusError(f"--synthetic {text!r} is neither SET nor NAME=SET")
        if name in found:
            raise VesaliusError(f"two synthetic sets are called {name!r}: name them, NAME=SET")
        found[name] = Path(path)
    return found


def _subject(model: str, adapters: list[str], device: str) -> "Subject":
    """The model in float32, and without its adapters for comparison."""
    from vesalius.evaluate.model_itself import Subject
    from vesalius.models.adapter_files import adapter_file
    from vesalius.models.adapters import parse_adapter
    from vesalius.models.generator import load_generator
    from vesalius.models.locate import locate
    from vesalius.sample.generate import load

    loaded = load(model, device, "float32", adapters)
    folder = adapter_file(parse_adapter(adapters[-1])[0]).parent if adapters else locate(model)
    return Subject(
        name=" + ".join([model, *adapters]),
        generator=loaded.generator,
        make=lambda images: loaded.generate("medical image", n=images),
        base=load_generator(model, device, "float32") if adapters else None,
        folder=folder,
    )
