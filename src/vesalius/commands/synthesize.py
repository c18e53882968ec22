"""`vesalius synthesize`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Device, Dtype


def synthesize(
    plan: Annotated[Path, typer.Argument(help="What `vesalius plan` wrote: .csv or .parquet.")],
    out: Annotated[Path, typer.Option(help="Folder of the set; the same command goes on with it.")],
    model: Annotated[
        str, typer.Option(help="A bundled name, a folder in diffusers layout, or a hub id.")
    ] = "mini",
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="A LoRA or textual inversion, as FILE or FILE:WEIGHT; may be given repeatedly.",
            show_default="none",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="For rows that name none.", show_default="the model's own"),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="For rows that name none.", show_default="the model's own"),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="For rows that name none.", show_default="the model's own"),
    ] = None,
    guard: Annotated[
        Path | None,
        typer.Option(
            help="Pairs table that the model was trained on: near-copies of it, blank and broken "
            "images are drawn again.",
            show_default="none",
        ),
    ] = None,
    attempts: Annotated[
        int, typer.Option(help="Images drawn for a row at most, until the guard takes one.")
    ] = 5,
    format: Annotated[
        str | None,
        typer.Option(
            help="png, jpeg, png16 (16-bit grey) or dicom.", show_default="png, or the model's own"
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            help="8 or 16, which is grey, for png16 and dicom.", show_default="the model's own"
        ),
    ] = None,
    store: Annotated[str, typer.Option(help="folder, webdataset or parquet.")] = "folder",
    shard: Annotated[
        str | None,
        typer.Option(
            help="Make one share of several: 0/4 to 3/4, as in a job array.",
            show_default="everything",
        ),
    ] = None,
    chunk: Annotated[int, typer.Option(help="Rows that are finished at once.")] = 32,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Images denoised at once.",
            show_default="4 on a CPU, else 16, or 128 of a small model",
        ),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Minutes at the start for faster steps (CUDA).")
    ] = False,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster.", show_default="RAY_ADDRESS, or this machine"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Make all images of a plan, with manifest and contact sheet. The same command goes on."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.synthesize.engine import synthesize

    with image_progress("synthesizing") as on_progress:
        done = synthesize(
            plan,
            out,
            model=model,
            adapters=adapter or (),
            device=device,
            dtype=dtype,
            steps=steps,
            guidance=guidance,
            sampler=sampler,
            guard=guard,
            attempts=attempts,
            format=format,
            bits=bits,
            store=store,
            shard=shard,
            chunk=chunk,
            batch_size=batch_size,
            compiled=compiled,
            engine=engine,
            ray_address=ray_address,
            on_progress=on_progress,
            on_warning=warn,
        )
    if not (counts := done["counts"]):
        print(f"{done['made']:,} of {done['rows']:,} rows are in {out}: the other shards make more")
        return
    print(
        f"{counts['images']:,} synthetic images in {out}: vesalius pairs {out} --out PAIRS.parquet"
    )
    if counts["rejected_images"]:
        print(
            f"rejected by the guard: {counts['rejected_images']:,} images; "
            f"{counts['rejected_rows']:,} rows are left without one"
        )
