"""`vesalius utility`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import numbers, pair


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
    arms: Annotated[
        str,
        typer.Option(
            help="real, oversampled, augmented, weighted, synthetic, mixed, pretrained, minority."
        ),
    ] = "all",
    ratios: Annotated[
        str, typer.Option(help="Synthetic images for a real one, of the arm mixed.")
    ] = "0.5,1,2",
    fractions: Annotated[
        str | None,
        typer.Option(help="Of the real training images, such as 0.01,0.1,1.", show_default="1"),
    ] = None,
    shots: Annotated[
        str | None, typer.Option(help="Real training images a class, such as 4,16.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Real training images in all, such as 200.")
    ] = None,
    folds: Annotated[
        int, typer.Option(help="Cross-validation of so many folds; 0 keeps the table's splits.")
    ] = 0,
    seeds: Annotated[int, typer.Option(help="Trainings of each arm.")] = 5,
    backbone: Annotated[
        str,
        typer.Option(
            help="inception, efficientnet-lite0, a network of timm such as resnet18 (=FILE for "
            "weights of your own), a folder; with --tune full also scratch:NAME and clip:ID."
        ),
    ] = "inception",
    tune: Annotated[
        str, typer.Option(help="probe (frozen backbone, features computed once) or full.")
    ] = "probe",
    hidden: Annotated[int, typer.Option(help="Units of the probe's hidden layer; 0: linear.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimiser steps of every training.")] = 1000,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 64,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="the classifier's usual one")
    ] = None,
    views: Annotated[
        int, typer.Option(help="Augmented views of an image, of a frozen backbone.")
    ] = 4,
    side: Annotated[
        int | None,
        typer.Option(
            help="Make all images squares of so many pixels first, as generators see theirs.",
            show_default="each as the network wants it",
        ),
    ] = None,
    test_split: Annotated[str, typer.Option(help="Split that is tested on.")] = "test",
    label_column: Annotated[str, typer.Option(help="Column of the table to tell apart.")] = "label",
    where: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE of the rows that take part; may be repeated."),
    ] = None,
    seen: Annotated[
        list[Path] | None,
        typer.Option(
            help="What the generator learned from: a run, or a pairs table of which it saw the "
            "training rows; once for the model and once an adapter.",
            show_default="what the set's about.json proves",
        ),
    ] = None,
    allow_unproven: Annotated[
        bool,
        typer.Option(
            "--allow-unproven",
            help="Go on where it cannot be proven that the generator saw no test image.",
        ),
    ] = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates for intervals.")] = 1000,
    store: Annotated[
        Path | None, typer.Option(help="Where features are kept.", show_default="OUT/features")
    ] = None,
    samples: Annotated[int, typer.Option(help="Pictures of a class in the report.")] = 6,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier results.")
    ] = False,
) -> None:
    """Do the synthetic images make a classifier better? Arms, tests and a report."""
    import shlex
    import sys
    from typing import cast

    from vesalius.core.terminal import image_progress, warn
    from vesalius.utility.experiment import Settings
    from vesalius.utility.experiment import utility as run
    from vesalius.utility.report import REPORT

    several = (shots, sizes)
    settings = Settings(
        arms=() if arms == "all" else tuple(name.strip() for name in arms.split(",")),
        ratios=numbers(ratios, "--ratios"),
        # asked for shots or sizes alone, the whole is left out
        fractions=numbers(fractions or ("" if any(several) else "1"), "--fractions"),
        shots=_counts(shots or "", "--shots"),
        sizes=_counts(sizes or "", "--sizes"),
        folds=folds,
        seeds=seeds,
        backbone=backbone,
        tune=cast("str", tune),  # pyright: ignore[reportArgumentType]
        hidden=hidden,
        steps=steps,
        batch=batch,
        lr=lr,
        views=views,
        side=side,
        test_split=test_split,
        label=label_column,
        where=dict(pair(each) for each in where or ()),
        replicates=replicates,
        device=device,
        allow_unproven=allow_unproven,
        samples=samples,
    )
    document = run(
        real,
        synthetic,
        out,
        settings,
        seen=seen or (),
        store=store,
        overwrite=overwrite,
        command=shlex.join(["vesalius", *sys.argv[1:]]),
        progress=image_progress,
        on_warning=warn,
    )
    print(document["verdict"]["headline"])
    print(f"report: {out / REPORT}")


def _counts(text: str, name: str) -> tuple[int, ...]:
    from vesalius.errors import VesaliusError

    values = numbers(text, name)
    if not all(value.is_integer() for value in values):
        raise VesaliusError(f"{name} {text!r}: give whole numbers of images, such as 4,16")
    return tuple(int(value) for value in values)
