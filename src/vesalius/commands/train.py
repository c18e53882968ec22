"""`vesalius train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.commands.options import Device
from vesalius.errors import VesaliusError


def _list(wanted: bool) -> None:
    from vesalius.config import bundled_recipes

    if wanted:
        for name, text in bundled_recipes().items():
            header = text.partition("\n#\n")[0].splitlines()
            about = " ".join(line.removeprefix("#").strip() for line in header if line[:1] == "#")
            print(f"{name}: {about}")
        raise typer.Exit


def _show(name: str | None) -> None:
    from vesalius.config import bundled_recipes

    if name:
        if name not in (recipes := bundled_recipes()):
            raise VesaliusError(f"no recipe is called {name!r}: choose {', '.join(recipes)}")
        print(recipes[name], end="")
        raise typer.Exit


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
    _listed: Annotated[
        bool,
        typer.Option("--list", callback=_list, is_eager=True, help="List the bundled recipes."),
    ] = False,
    _shown: Annotated[
        str | None,
        typer.Option(
            "--show",
            metavar="RECIPE",
            callback=_show,
            is_eager=True,
            show_default=False,
            help="Print a bundled recipe: what it is for, and every value.",
        ),
    ] = None,
) -> None:
    """Train a generator or an adapter as a recipe says, from scratch or from a base model."""
    from vesalius.config import load_recipe
    from vesalius.core.terminal import image_progress, say, training_progress, warn
    from vesalius.models.device import pick_device
    from vesalius.sample.generate import TextToImage
    from vesalius.train.run import estimate, train_recipe
    from vesalius.train.session import Session

    settings, place = load_recipe(recipe, overrides), str(pick_device(device))
    if dry_run:
        print(estimate(settings, pairs, model, place))
        return

    def samples(generator: Any, prompts: list[str]) -> list[Any]:
        return [sample.image for sample in TextToImage(generator).generate(prompts)]

    session = Session(place, resume, image_progress, training_progress, say, warn, samples)
    result = train_recipe(settings, pairs, out, model, session)
    folder, base = result.folder, model or getattr(settings, "model", None)
    ways = {
        "generator": f"vesalius generate PROMPT --model {folder}",
        "text encoder": f"vesalius train RECIPE text_encoder.source={folder}",
        "adapter": f"vesalius generate PROMPT --model {base} --adapter {folder}",
        "adapters": f"vesalius generate PROMPT --model {base} --adapter {folder}/LABEL/adapter",
    }
    print(f"trained: {ways[result.kind]}")
