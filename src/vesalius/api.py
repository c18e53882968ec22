"""Arrows of the data flow that take more than one call of a stage; `vesalius` exports them all."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vesalius.synthesize.settings import PlanSettings

if TYPE_CHECKING:
    from vesalius.synthesize.make_plan import Plan
    from vesalius.train.session import Trained


def plan(
    pairs: Path | str,
    out: Path | str,
    settings: PlanSettings | None = None,
    *,
    overwrite: bool = False,
    on_warning: Callable[[str], object] = lambda message: None,
) -> "Plan":
    """Write what to generate for the classes of a pairs table to `out`, a .csv or .parquet file.

        vesalius.plan("pairs.parquet", "plan.csv", PlanSettings(HowMany(balance=True)))

    Raises VesaliusError for what cannot be planned, and where `out` exists.
    """
    from vesalius.core.atomic import writable_new_file
    from vesalius.synthesize.make_plan import plan_from_pairs
    from vesalius.synthesize.plan import write_plan
    from vesalius.synthesize.plan_file import suffix_of

    out = Path(out)
    suffix_of(writable_new_file(out, overwrite=overwrite))
    made = plan_from_pairs(pairs, settings or PlanSettings(), on_warning)
    write_plan(made.rows, out, overwrite)
    return made


def train(
    recipe: Any,
    pairs: Path | str,
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    model: str | None = None,
    device: str = "auto",
    resume: bool = False,
) -> "Trained":
    """Train a generator or an adapter on a pairs table; everything is written into the folder `out`.

        vesalius.train("lora", "pairs.parquet", "run", overrides=["lora.rank=8"])

    `recipe` is the name of a bundled recipe, a .yaml file, or what `load_recipe` gave; `overrides` change
    the values of the former two, and `model` is another base model. Raises VesaliusError for whatever does
    not go together.
    """
    from vesalius.config import load_recipe
    from vesalius.errors import VesaliusError
    from vesalius.models.device import pick_device
    from vesalius.sample.generate import TextToImage
    from vesalius.train.run import train_recipe
    from vesalius.train.session import Session

    def samples(generator: Any, prompts: list[str]) -> list[Any]:
        return [sample.image for sample in TextToImage(generator).generate(prompts)]

    settings = recipe
    if isinstance(recipe, str | Path):
        settings = load_recipe(str(recipe), list(overrides))
    elif overrides:
        raise VesaliusError("overrides are for a recipe's name or file: give them to load_recipe")
    session = Session(str(pick_device(device)), resume, sampler=samples)
    return train_recipe(settings, pairs, out, model, session)
