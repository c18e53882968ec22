"""`vesalius generate`."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.commands.options import Out, Overwrite, options
from vesalius.errors import VesaliusError
from vesalius.sample.settings import GenerateSettings


@options
def generate(
    prompts: Annotated[
        list[str], typer.Argument(metavar="PROMPT", help="What to draw; A AND B:0.5 for both.")
    ],
    *,
    out: Out = Path("vesalius-out"),
    settings: GenerateSettings,
    overwrite: Overwrite = False,
) -> None:
    """Generate images from text, with their provenance, a manifest and a contact sheet."""
    if len(prompts) > 2 and not any(set(" ,<") & set(prompt) for prompt in prompts):
        raise VesaliusError(
            f"{len(prompts)} prompts of one word each: quote a prompt of several words, as in "
            f'"{" ".join(prompts)}"; to mean each alone, end one with a comma'
        )
    from vesalius.core.terminal import image_progress, say, warn
    from vesalius.sample.folder import generate_to_folder

    with image_progress(first=f"loading {settings.model}") as on_progress:
        made = generate_to_folder(
            prompts,
            out,
            settings,
            overwrite=overwrite,
            on_progress=on_progress,
            on_warning=warn,
            on_message=say,
        )
    print(made)
