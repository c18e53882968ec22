"""What every run leaves behind besides its result."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from vesalius.config import Part
from vesalius.core.atomic import atomic_path
from vesalius.core.trained_on import TrainedOn, find_rows, read_rows
from vesalius.models.locate import locate
from vesalius.pairs.table import Pairs


def write_recipe(recipe: Part, out: Path) -> None:
    """Write `out`/recipe.yaml, with every value resolved."""
    with atomic_path(out / "recipe.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


def write_training_rows(
    pairs: Pairs, rows: list[int], out: Path, bases: Sequence[str] = ()
) -> None:
    """Write `out`/training_rows.json: which images, and whose, a later test must not hold.

    What the `bases` have learned from, as far as they say, is in the weights too.
    """
    used = TrainedOn.of_rows("", pairs.column, sorted(rows))
    for base in bases:
        if path := find_rows(locate(base)):
            used = used.plus(read_rows(path))
    used.write(out)
