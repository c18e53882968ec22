"""Recipes: YAML files that say everything a training run needs, checked before anything starts.

The field `method` says which kind of recipe a file is; without it, it trains from scratch.
Overrides are `key.sub=value` strings, their values read as YAML. Every error names the field that
is wrong, and the nearest right one.
"""

from vesalius.config.load import (
    METHODS,
    bundled_recipes,
    load_recipe,
    override_of,
    validated,
)
from vesalius.config.private import (
    DpAggregateRecipe,
    DpLoraRecipe,
    DpTextualInversionRecipe,
    Guarantee,
    PrivacySettings,
)
from vesalius.config.recipes import (
    AutoencoderRecipe,
    ContrastiveRecipe,
    DenoiserRecipe,
    EmbeddingSettings,
    FineTuneRecipe,
    FullRecipe,
    LoraRecipe,
    Objective,
    Optimisation,
    Part,
    Recipe,
    SamplerRecipe,
    TextualInversionRecipe,
)

__all__ = [
    "METHODS",
    "AutoencoderRecipe",
    "ContrastiveRecipe",
    "DenoiserRecipe",
    "DpAggregateRecipe",
    "DpLoraRecipe",
    "DpTextualInversionRecipe",
    "EmbeddingSettings",
    "FineTuneRecipe",
    "FullRecipe",
    "Guarantee",
    "LoraRecipe",
    "Objective",
    "Optimisation",
    "Part",
    "PrivacySettings",
    "Recipe",
    "SamplerRecipe",
    "TextualInversionRecipe",
    "bundled_recipes",
    "load_recipe",
    "override_of",
    "validated",
]
