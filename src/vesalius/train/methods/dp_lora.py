"""Low-rank adaptation with a guarantee for each patient: `train.privacy` says how.

Few weights that train mean little noise: a small rank on attention alone is better than a large one.
"""

from vesalius.config import DpLoraRecipe
from vesalius.train.methods.lora import LoraMethod, notes
from vesalius.train.privacy.fine_tuning import PrivateFineTuning

KIND = PrivateFineTuning(DpLoraRecipe, LoraMethod, notes)
