"""`vesalius interpolate` and `vesalius inpaint`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Device, Dtype, Overwrite

Model = Annotated[
    str, typer.Option(help="A bundled name, a folder in diffusers layout, or a hub id.")
]
Adapter = Annotated[
    list[str] | None,
    typer.Option(
        help="A LoRA or textual inversion, as FILE or FILE:WEIGHT; may be given repeatedly.",
        show_default="none",
    ),
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps.", show_default="the model's own")]
Scale = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        help="How closely to follow the prompt; 1 is no guidance.",
        show_default="the model's own",
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="ddim, dpm++2m, unipc, euler, heun or euler-a.", show_default="the model's own"
    ),
]
Negative = Annotated[str, typer.Option(help="What to move away from.")]
BatchSize = Annotated[
    int | None,
    typer.Option(help="Images denoised at once.", show_default="4 on a CPU, else 8"),
]
Out = Annotated[Path, typer.Option(help="New folder for the images.")]


def interpolate(
    first: Annotated[str, typer.Argument(metavar="A", help="The prompt to begin with.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The prompt to end with.")],
    out: Out,
    frames: Annotated[int, typer.Option(help="Images, those of A and of B included.")] = 9,
    seed: Annotated[int, typer.Option(help="All frames are drawn from it.")] = 0,
    model: Model = "mini",
    adapter: Adapter = None,
    steps: Steps = None,
    guidance: Scale = None,
    sampler: Sampler = None,
    negative: Negative = "",
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels: 256, or width x height: 384x256.", show_default="the model's own"
        ),
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """From one prompt to another with the same noise: frames, strip.png, interpolation.gif."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.sample.interpolate import interpolate_to_folder
    from vesalius.sample.settings import InterpolateSettings

    settings = InterpolateSettings(
        frames=frames,
        seed=seed,
        model=model,
        device=device,
        dtype=dtype,
        adapters=tuple(adapter or ()),
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        negative=negative,
        size=size,
        batch_size=batch_size,
    )
    with image_progress() as on_progress:
        rows = interpolate_to_folder(
            first,
            second,
            out,
            settings,
            overwrite=overwrite,
            on_progress=on_progress,
            on_warning=warn,
        )
    print(f"{len(rows)} synthetic images in {out}: see strip.png and interpolation.gif")


def inpaint(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Images to paint into, real or synthetic.")
    ],
    prompt: Annotated[str, typer.Option(help="What the whole image shows when it is done.")],
    out: Out,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="An image of the same size: white is drawn anew.", show_default="ellipses only"
        ),
    ] = None,
    ellipse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CX,CY,RX,RY[,ANGLE]",
            help="Draw anew in it too: fractions of width and height, degrees clockwise; may be "
            "given repeatedly.",
            show_default="none",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Results for each image.")] = 1,
    seed: Annotated[int, typer.Option(help="Result k of the run is drawn from seed + k.")] = 0,
    strength: Annotated[
        float, typer.Option(help="0 to 1: how little of what was there shows through.")
    ] = 1.0,
    feather: Annotated[
        int, typer.Option(help="Pixels within the mask's edge over which old turns into new.")
    ] = 4,
    model: Model = "mini",
    adapter: Adapter = None,
    steps: Steps = None,
    guidance: Scale = None,
    sampler: Sampler = None,
    negative: Negative = "",
    batch_size: BatchSize = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Draw a part of an image anew; all other pixels stay as they are, to the bit."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.sample.inpaint import inpaint_to_folder
    from vesalius.sample.settings import InpaintSettings

    settings = InpaintSettings(
        mask=mask,
        ellipses=tuple(ellipse or ()),
        n=n,
        seed=seed,
        strength=strength,
        feather=feather,
        model=model,
        device=device,
        dtype=dtype,
        adapters=tuple(adapter or ()),
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        negative=negative,
        batch_size=batch_size,
    )
    with image_progress() as on_progress:
        rows = inpaint_to_folder(
            images,
            prompt,
            out,
            settings,
            overwrite=overwrite,
            on_progress=on_progress,
            on_warning=warn,
        )
    print(f"{len(rows)} synthetic image{'s' * (len(rows) > 1)} in {out}: see contact-sheet.png")
