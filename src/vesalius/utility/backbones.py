"""Which network a classifier stands on, by name, and how it is trained.

    probe   any extractor of `vesalius.models.networks.extractors` (inception, efficientnet-lite0, dinov2,
            timm:NAME=FILE, ...), frozen: features are computed once and kept
    full    all weights train: efficientnet-lite0, timm:NAME, timm:NAME=FILE, scratch:NAME (random
            weights), or clip:ID and clip:FOLDER, of which low-rank layers train

A plain name of timm, such as resnet18, and the path of a folder in transformers' layout will do too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vesalius.errors import VesaliusError
from vesalius.models.networks.extractors import EXTRACTORS, Extractor, find_extractor
from vesalius.utility.features import PoolFeatures
from vesalius.utility.folds import Fold
from vesalius.utility.learner import Learner
from vesalius.utility.probe import Probe
from vesalius.utility.settings import UtilitySettings

if TYPE_CHECKING:
    from vesalius.utility.networks import Network


def find_backbone(name: str, tune: str) -> "Extractor | Network":
    """A frozen extractor, or with `tune` "full" a network that trains, by name: see the top of this file.

    Raises VesaliusError, in one line, where it cannot be had.
    """
    if tune == "full":
        from vesalius.utility.networks import find_network

        return find_network(name)
    if name.startswith(("scratch:", "clip:")):
        raise VesaliusError(f"{name} is for --tune full: as it is, it tells nothing apart")
    known = name.partition("=")[0]
    if known not in EXTRACTORS.names() and ":" not in known:
        name = f"hf:{name}" if Path(name).is_dir() else f"timm:{name}"
    return find_extractor(name)


def about(name: str, backbone: "Extractor | Network") -> dict[str, Any]:
    """All that decides what it is, for JSON."""
    own = backbone.identity if isinstance(backbone, Extractor) else backbone.about
    return {"name": name, **own}


def make_learner(
    backbone: "Extractor | Network",
    source: PoolFeatures,
    folds: Sequence[Fold],
    settings: UtilitySettings,
) -> Learner:
    """What trains every arm on a pool; `source` gives the features of a frozen backbone.

    Raises VesaliusError for images that cannot be read.
    """
    pool = source.pool
    if not isinstance(backbone, Extractor):
        from vesalius.utility.finetune import FineTune

        return FineTune(pool, backbone, settings.steps, settings.batch, settings.lr,
                        side=settings.side, device=source.device)  # fmt: skip
    images, views, viewed = source.of_images(backbone), None, None
    if any(arm.kind == "augmented" for arm in settings.parsed_arms()):
        rows = np.unique(np.concatenate([fold.train for fold in folds]))
        viewed = np.full(len(pool), -1)
        viewed[rows] = np.arange(len(rows))
        views = source.of_views(backbone, rows.tolist(), settings.views)
    lr: dict[str, Any] = {} if settings.lr is None else {"lr": settings.lr}
    return Probe(images, pool.targets, pool.exclusive, views, viewed, settings.steps,
                 settings.batch, hidden=settings.hidden, device=source.device, **lr)  # fmt: skip
