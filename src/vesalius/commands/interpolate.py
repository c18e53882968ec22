"""`vesalius interpolate`."""

from typing import Annotated

import typer

from vesalius.commands.options import Out, Overwrite, options
from vesalius.sample.settings import InterpolateSettings


@options
def interpolate(
    first: Annotated[str, typer.Argument(metavar="A", help="The prompt to begin with.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The prompt to end with.")],
    *,
    out: Out,
    settings: InterpolateSettings,
    overwrite: Overwrite = False,
) -> None:
    """Go from one prompt to another with the same noise: frames, strip, animation."""
    from vesalius.core.terminal import image_progress, warn
    from vesalius.sample.interpolate import interpolate_to_folder

    with image_progress(first=f"loading {settings.model}") as on_progress:
        made = interpolate_to_folder(
            first,
            second,
            out,
            settings,
            overwrite=overwrite,
            on_progress=on_progress,
            on_warning=warn,
        )
    print(f"{made} and interpolation.gif")
