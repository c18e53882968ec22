"""What every run leaves behind besides its result."""

from pathlib import Path

import yaml

from vesalius.config import Part
from vesalius.core.atomic import atomic_path


def write_recipe(recipe: Part, out: Path) -> None:
    """Write `out`/recipe.yaml, with every value resolved."""
    with atomic_path(out / "recipe.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
