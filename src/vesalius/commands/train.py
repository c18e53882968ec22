"""`vesalius train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.commands.options import options
from vesalius.core.labels import listed
from vesalius.core.settings import Help
from vesalius.core.words import did_you_mean, plural
from vesalius.errors import VesaliusError


def _list(wanted: bool) -> None:
    from vesalius.config import bundled_recipes

    if wanted:
        for name, text in bundled_recipes().items():
            header = text.partition("\n#\n")[0].splitlines()
            about = " ".join(line.removeprefix("#").strip() for line in header if line[:1] == "#")
            first_sentence = about.partition(". ")[0].rstrip(".:")
            print(f"{name}: {first_sentence}")
        print("`vesalius train --show RECIPE` prints its commands and every value.")
        raise typer.Exit


def _show(name: str | None) -> None:
    from vesalius.config import bundled_recipes

    if name:
        if name not in (recipes := bundled_recipes()):
            near = did_you_mean(name, recipes) or f": choose {', '.join(recipes)}"
            raise VesaliusError(f"no recipe is called {name!r}{near}")
        print(recipes[name], end="")
        raise typer.Exit


@dataclass(frozen=True)
class TrainOptions:
    """How a recipe is carried out."""

    model: Annotated[
        str | None,
        Help("Base model: a bundled name, a folder or a hub id.", unset="the recipe's"),
    ] = None
    resume: Annotated[bool, Help("Resume a stopped run.")] = False
    dry_run: Annotated[
        bool, Help("Say what would be trained, how long and how large; write nothing.")
    ] = False
    device: Annotated[str, Help("auto, cpu, cuda, cuda:1 or mps.")] = "auto"


@options
def train(
    recipe: Annotated[str, typer.Argument(help="A bundled name or a .yaml file.")],
    pairs: Annotated[Path, typer.Option(help="The table that `vesalius pairs` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override the recipe.")
    ] = None,
    *,
    settings: TrainOptions,
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
    from vesalius.core.waiting import loading

    with loading("PyTorch", say):
        from vesalius.models.device import pick_device
        from vesalius.sample.generate import TextToImage
        from vesalius.train.run import estimate, train_recipe
        from vesalius.train.session import Session

    loaded, place = load_recipe(recipe, overrides), str(pick_device(settings.device))
    if settings.dry_run:
        print(estimate(loaded, pairs, settings.model, place, say).text(out))
        return

    def samples(generator: Any, prompts: list[str]) -> list[Any]:
        return [sample.image for sample in TextToImage(generator).generate(prompts)]

    session = Session(place, settings.resume, image_progress, training_progress, say, warn, samples)
    result = train_recipe(loaded, pairs, out, settings.model, session)
    folder, base = result.folder, settings.model or getattr(loaded, "model", None)
    ways = {
        "generator": f"vesalius generate PROMPT --model {folder}",
        "text encoder": f"vesalius train RECIPE text_encoder.source={folder}",
        "adapter": f"vesalius generate PROMPT --model {base} --adapter {folder}",
        "adapters": f"vesalius plan --pairs {pairs} --adapter {folder} --balance --out plan.csv; "
        f"vesalius synthesize plan.csv --model {base} --adapter {folder} --out set",
    }
    if result.adapters:
        labels = [path.parent.name for path in result.adapters]
        print(f"{plural(len(labels), 'adapter')}, of the labels {listed(labels)}")
    print(f"trained: {ways[result.kind]}")
