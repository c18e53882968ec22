"""`vesalius inpaint`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Out, Overwrite, options
from vesalius.sample.settings import InpaintSettings


@options
def inpaint(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Images to paint into, real or synthetic.")
    ],
    *,
    prompt: Annotated[str, typer.Option(help="What the whole image shows when it is done.")],
    out: Out,
    settings: InpaintSettings,
    overwrite: Overwrite = False,
) -> None:
    """Redraw a part of an image; all other pixels stay as they are, to the bit."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.sample.inpaint import inpaint_to_folder

    with image_progress(first=f"loading {settings.model}") as on_progress:
        made = inpaint_to_folder(
            images,
            prompt,
            out,
            settings,
            overwrite=overwrite,
            on_progress=on_progress,
            on_warning=warn,
        )
    print(made)
