"""`vesalius train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.commands.options import Device


def train(
    recipe: Annotated[str, typer.Argument(help="A bundled name or a .yaml file.")],
    pairs: Annotated[Path, typer.Option(help="The table that `vesalius pairs` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override the recipe.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Base model: a bundled name, a folder or a hub id.", show_default="the recipe's"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained; touch nothing.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train a generator or an adapter as a recipe says, from scratch or from a base model."""
    from vesalius.config import load_recipe
    from vesalius.core.terminal import print_plan
    from vesalius.models.device import pick_device
    from vesalius.sample.generate import TextToImage
    from vesalius.train.estimate import plan
    from vesalius.train.run import train_recipe

    settings, place = load_recipe(recipe, overrides), str(pick_device(device))
    if dry_run:
        print_plan(plan(settings, pairs, model, place))
        return

    def samples(generator: Any, prompts: list[str]) -> list[Any]:
        return [sample.image for sample in TextToImage(generator).generate(prompts)]

    folder = train_recipe(settings, pairs, out, model, place, resume, samples)
    if settings.method in ("scratch", "full"):
        print(f"trained: vesalius generate PROMPT --model {folder}")
    elif settings.method == "contrastive":
        print(f"trained: vesalius train RECIPE text_encoder.source={folder}")
    else:
        adapter = folder if folder.name == "adapter" else folder / "LABEL" / "adapter"
        base = model or settings.model
        print(f"trained: vesalius generate PROMPT --model {base} --adapter {adapter}")
