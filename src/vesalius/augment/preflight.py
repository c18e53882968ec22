"""What would fail late is tried before anything is trained.

The training images stand in for the synthetic set to come: so the experiment that is run at the end
looks at the real images, their division and what the base model has seen exactly as it will then.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vesalius.augment.base import Base
from vesalius.augment.division import Division
from vesalius.augment.settings import AugmentSettings
from vesalius.core.trained_on import digest_of
from vesalius.errors import VesaliusError
from vesalius.evaluate.inputs import find_all
from vesalius.images.image_set import ImageSet
from vesalius.models.overlap import seen_test_images
from vesalius.pairs.trained_on import read_trained_on
from vesalius.utility import leakage
from vesalius.utility.backbones import find_backbone
from vesalius.utility.folds import check_classes, divide
from vesalius.utility.leakage import Check
from vesalius.utility.pool import Real, Synthetic, make_pool, real_of

STAND_IN = Path("the synthetic set")  # what messages call it


def check(
    division: Division, base: Base, settings: AugmentSettings, *, trains: bool
) -> list[Check]:
    """What holds of the comparison to come, and what cannot be proven.

    Raises VesaliusError for a class that a side lacks, a group on two sides, synthetic images among
    the real ones, a network that cannot be had, and for a base model that has seen test images or of
    which that is not known, unless the settings allow it.
    """
    find_backbone(settings.backbone, settings.tune)
    find_all(settings.extractors)
    named = (*base.rows, *settings.learned_from)
    given = [one for path in named for one in read_trained_on(path)]
    real = real_of(division.pairs(), division.path, {}, "label")
    pool = make_pool(real, [_stand_in(real, base, trains=trains)])
    folds, _ = divide(pool, test_split="test", folds=0, seed=0)
    folds, checks = leakage.check_all(pool, folds, given, allow_unproven=True)
    for fold in folds:
        check_classes(pool, fold, " that is no copy of another side's")
    unproven = [check for check in checks if check.status == "unproven"]
    if unproven and not settings.allow_unproven:
        table = division.pairs()
        seen = seen_test_images(base.name, table.column, table.rows("test"))
        why = seen or f"{unproven[0].message}. --model takes another one"
        raise VesaliusError(
            f"nothing was trained with {base.name}: {why}; --allow-unproven goes on and says so at the "
            "top of the report"
        )
    # of the classifiers' training images more will be known when there are synthetic ones
    return [check for check in checks if check.what != "classifier"]


def _stand_in(real: Real, base: Base, *, trains: bool) -> Synthetic:
    """The training images as a set of a generator that has seen them, and what its base has seen."""
    rows = real.of("train")
    columns = {"label": [real.labels[row] for row in rows]}
    images = ImageSet([partial(real.encoded, row) for row in rows], columns)
    own = [digest_of(real.keys[row] for row in rows)] if trains else []
    names: Sequence[str] = ["of this training"] if trains else []
    about = {"adapters": names, "training_rows": {"model": base.trained_on, "adapters": own}}
    return Synthetic(STAND_IN, images, columns["label"], about)
