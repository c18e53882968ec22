"""Textual inversion with a guarantee for each patient: `train.privacy` says how."""

from vesalius.config import DpTextualInversionRecipe
from vesalius.train.methods.textual_inversion import TextualInversionMethod, check, notes
from vesalius.train.privacy.fine_tuning import PrivateFineTuning

KIND = PrivateFineTuning(DpTextualInversionRecipe, TextualInversionMethod, notes, check)
