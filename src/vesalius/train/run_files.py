"""What every run leaves behind besides its result."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from vesalius.config import Part
from vesalius.core.atomic import atomic_path
from vesalius.core.trained_on import TrainedOn, find_rows, read_rows
from vesalius.pairs.table import Pairs


def write_recipe(recipe: Part, out: Path, *, keep: bool = False) -> None:
    """Write `out`/recipe.yaml, with every value resolved; with `keep` only where there is none.

    A run may be asked to go on with another recipe, which is refused: what made it must stay.
    """
    if keep and (out / "recipe.yaml").is_file():
        return
    with atomic_path(out / "recipe.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def write_training_rows(
    pairs: Pairs, rows: list[int], out: Path, bases: Sequence[Path] = ()
) -> None:
    """Write `out`/training_rows.json: which images, and whose, a later test must not hold.

    What the models in the folders `bases` were trained on is in the weights too, where they say it.
    """
    used = TrainedOn.of_rows("", pairs.column, sorted(rows))
    for base in bases:
        if path := find_rows(base):
            used = used.plus(read_rows(path))
    used.write(out)
