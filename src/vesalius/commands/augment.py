"""`vesalius augment`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Device, numbers, pair

IMAGES, GENERATOR, AMOUNT, JUDGES = "Images", "Generator", "How many", "Classifiers and evidence"


def augment(
    pairs: Annotated[Path, typer.Argument(help="The table that `vesalius pairs` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder; the same command goes on in it.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override the recipe.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Draw it anew, as val=0.15,test=0.2.",
            show_default="the table's own where it has a test, else val=0.15,test=0.2",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="COLUMN=VALUE of the rows that take part; may be repeated.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    label_column: Annotated[
        str, typer.Option(help="Column of the classes.", rich_help_panel=IMAGES)
    ] = "label",
    model: Annotated[
        str,
        typer.Option(help="Base: a bundled name, a folder or a hub id.", rich_help_panel=GENERATOR),
    ] = "mini",
    method: Annotated[
        str,
        typer.Option(
            help="auto (by the number of images), none, textual-inversion, lora or full.",
            rich_help_panel=GENERATOR,
        ),
    ] = "auto",
    images_seen: Annotated[
        int | None,
        typer.Option(
            help="How long to train.",
            show_default="by the number of images, at most 9,600 without a GPU",
            rich_help_panel=GENERATOR,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Denoising steps.", show_default="the model's own", rich_help_panel=GENERATOR
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Guidance scale.", show_default="the model's own", rich_help_panel=GENERATOR
        ),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance",
            help="Top up every class to the largest. Without any of these: that where classes are "
            "uneven, else --ratio 1.",
            rich_help_panel=AMOUNT,
        ),
    ] = False,
    per_class: Annotated[
        int | None,
        typer.Option(help="So many of each class.", show_default=False, rich_help_panel=AMOUNT),
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            help="So many times each class's real images.",
            show_default=False,
            rich_help_panel=AMOUNT,
        ),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="As of `vesalius utility`.", rich_help_panel=JUDGES)
    ] = "inception",
    tune: Annotated[
        str, typer.Option(help="probe (frozen backbone) or full.", rich_help_panel=JUDGES)
    ] = "probe",
    classifier_steps: Annotated[
        int, typer.Option(help="Optimiser steps of a classifier.", rich_help_panel=JUDGES)
    ] = 1000,
    seeds: Annotated[int, typer.Option(help="Trainings of each arm.", rich_help_panel=JUDGES)] = 5,
    arms: Annotated[
        str, typer.Option(help="As of `vesalius utility`.", rich_help_panel=JUDGES)
    ] = "all",
    ratios: Annotated[
        str,
        typer.Option(
            help="Synthetic images for a real one, of the arm mixed.", rich_help_panel=JUDGES
        ),
    ] = "0.5,1,2",
    side: Annotated[
        int | None,
        typer.Option(
            help="Make all images squares of so many pixels first.",
            show_default="each as the network wants it",
            rich_help_panel=JUDGES,
        ),
    ] = None,
    extractors: Annotated[
        str, typer.Option(help="Networks of the evidence, with commas.", rich_help_panel=JUDGES)
    ] = "inception,efficientnet-lite0",
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="Pictures of a class in the reports; 0 for none.",
            rich_help_panel=JUDGES,
        ),
    ] = 6,
    seen: Annotated[
        list[Path] | None,
        typer.Option(
            help="What the base model learned from, where it does not say: a run or a pairs table.",
            rich_help_panel=GENERATOR,
        ),
    ] = None,
    allow_unproven: Annotated[
        bool,
        typer.Option(
            "--allow-unproven",
            help="Go on where it cannot be proven that the base model saw no test image.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides every draw.")] = 0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Remove what an earlier run left, and begin anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; touch nothing.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Fine-tune, generate, and find out whether it helps: the whole way, with one report."""
    import shlex
    import sys

    from vesalius.augment.run import augment as run
    from vesalius.augment.run import dry_run as plan
    from vesalius.augment.settings import Settings
    from vesalius.augment.steps import REPORT
    from vesalius.core.terminal import image_progress, print_plan, warn

    settings = Settings(
        model=model,
        method=method,
        split=split,
        where=dict(pair(each) for each in where or ()),
        label=label_column,
        balance=balance,
        per_class=per_class,
        ratio=ratio,
        images_seen=images_seen,
        overrides=tuple(overrides or ()),
        steps=steps,
        guidance=guidance,
        backbone=backbone,
        tune=tune,  # pyright: ignore[reportArgumentType]
        seeds=seeds,
        arms=() if arms == "all" else tuple(name.strip() for name in arms.split(",")),
        ratios=numbers(ratios, "--ratios"),
        side=side,
        classifier_steps=classifier_steps,
        extractors=tuple(name.strip() for name in extractors.split(",") if name.strip()),
        samples=samples,
        seed=seed,
        seen=tuple(str(path) for path in seen or ()),
        allow_unproven=allow_unproven,
        device=device,
    )
    if dry_run:
        print_plan(plan(pairs, out, settings))
        return
    record = run(
        pairs,
        out,
        settings,
        restart=restart,
        command=shlex.join(["vesalius", *sys.argv[1:]]),
        progress=image_progress,
        on_warning=warn,
        on_step=lambda message: print(message, file=sys.stderr),
    )
    print(record["verdict"]["headline"])
    print(f"report: {out / REPORT}")
