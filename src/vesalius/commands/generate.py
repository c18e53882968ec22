"""`vesalius generate` and `vesalius adapter`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Device, Dtype, Overwrite


def generate(
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT", help="What to draw; A AND B:0.5 for both.")
    ],
    n: Annotated[int, typer.Option("-n", help="Images for each prompt.")] = 1,
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
    guidance_rescale: Annotated[
        float, typer.Option(help="0 to 1: undo the contrast that high guidance adds.")
    ] = 0.0,
    guidance_interval: Annotated[
        tuple[float, float], typer.Option(help="Part of the steps that are guided.")
    ] = (0.0, 1.0),
    sampler: Annotated[
        str | None,
        typer.Option(
            help="ddim, dpm++2m, unipc, euler, heun or euler-a.", show_default="the model's own"
        ),
    ] = None,
    negative: Annotated[str, typer.Option(help="What to move away from.")] = "",
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels: 256, or width x height: 384x256.", show_default="the model's own"
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="An image to start from, instead of noise alone.", show_default="none"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="0 to 1: how far --image is changed.", show_default="0.6"),
    ] = None,
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
    out: Annotated[Path, typer.Option(help="New folder for the images.")] = Path("vesalius-out"),
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images denoised at once.", show_default="4 on a CPU, else 8"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Text to images that carry their provenance, manifest.jsonl, contact-sheet.png."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.sample.folder import generate_to_folder
    from vesalius.sample.settings import GenerateSettings

    settings = GenerateSettings(
        model=model,
        device=device,
        dtype=dtype,
        adapters=tuple(adapter or ()),
        n=n,
        seed=seed,
        steps=steps,
        guidance=guidance,
        guidance_rescale=guidance_rescale,
        guidance_interval=guidance_interval,
        sampler=sampler,
        negative=negative,
        size=size,
        image=image,
        strength=strength,
        format=format,
        bits=bits,
        batch_size=batch_size,
    )
    with image_progress() as on_progress:
        rows = generate_to_folder(
            prompts, out, settings, overwrite=overwrite, on_progress=on_progress, on_warning=warn
        )
    print(f"{len(rows)} synthetic image{'s' * (len(rows) > 1)} in {out}: see contact-sheet.png")


def adapter(
    source: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="A LoRA or textual inversion: file or folder.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    to: Annotated[
        str,
        typer.Option(
            help="diffusers, kohya (of a LoRA), or webui: kohya, or for a textual inversion "
            "emb_params, whose word is the file's name."
        ),
    ] = "diffusers",
    token: Annotated[
        str | None,
        typer.Option(help="Word for a textual inversion.", show_default="the file's own"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert an adapter of any format, also a legacy .pt or .bin, to another format."""
    from vesalius.models.adapter_files import export_adapter

    export_adapter(source, to, out, token=token, overwrite=overwrite)
    print(f"wrote {out}: vesalius generate PROMPT --adapter {out}")
