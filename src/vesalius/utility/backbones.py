"""Which network a classifier stands on, by name, and how it is taught.

    probe   any extractor of `vesalius.models.networks.extractors` (inception, efficientnet-lite0, dinov2,
            timm:NAME=FILE, ...), frozen: features are computed once and kept
    full    all weights train: efficientnet-lite0, timm:NAME, timm:NAME=FILE, scratch:NAME (random
            weights), or clip:ID and clip:FOLDER, of which low-rank layers train

A plain name of timm, such as resnet18, and the path of a folder in transformers' layout will do too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vesalius.core.progress import Progress
from vesalius.errors import VesaliusError
from vesalius.images.image_set import unfair
from vesalius.models.networks.extractors import NAMES, Extractor, find_extractor
from vesalius.models.networks.features import extract
from vesalius.utility.classifiers import Learner, Probe
from vesalius.utility.pool import Fold, Pool
from vesalius.utility.views import VERSION, view_features

if TYPE_CHECKING:
    from vesalius.utility.experiment import Settings
    from vesalius.utility.finetune import Network


@dataclass(frozen=True)
class Backbone:
    """One of the two is there: a frozen extractor, or a network that trains."""

    name: str
    extractor: Extractor | None = None
    network: "Network | None" = None

    @classmethod
    def find(cls, name: str, tune: str) -> "Backbone":
        """By name, see the top of this file.

        Raises VesaliusError, in one line, where it cannot be had.
        """
        if tune == "full":
            from vesalius.utility.finetune import find_network

            return cls(name, network=find_network(name))
        if name.startswith(("scratch:", "clip:")):
            raise VesaliusError(f"{name} is for --tune full: as it is, it tells nothing apart")
        return cls(name, find_extractor(_spelled(name)))

    @property
    def about(self) -> dict[str, Any]:
        """All that decides what it is, for JSON."""
        if self.extractor:
            return {"name": self.name, **self.extractor.identity}
        return {"name": self.name, **(self.network.about if self.network else {})}


def _spelled(name: str) -> str:
    """A name as `find_extractor` knows it."""
    known = name.partition("=")[0]
    if known in NAMES or ":" in known:
        return name
    return f"hf:{name}" if Path(name).is_dir() else f"timm:{name}"


def make_learner(
    pool: Pool,
    folds: Sequence[Fold],
    backbone: Backbone,
    settings: "Settings",
    store: Path,
    device: str,
    progress: Progress,
    notes: list[str],
    *,
    views: bool,
) -> tuple[Learner, float]:
    """The learner of a pool, and the seconds that its features took.

    With `views` also those of augmented training images. What is unlike in real and synthetic files
    is added to `notes`. Raises VesaliusError for images that cannot be read.
    """
    if backbone.extractor is None:
        from vesalius.utility.finetune import FineTune

        if backbone.network is None:
            raise VesaliusError(f"{backbone.name} can neither be frozen nor trained")
        return FineTune(pool, backbone.network, settings.steps, settings.batch, settings.lr,
                        side=settings.side, device=device), 0.0  # fmt: skip
    began = time.monotonic()
    features = _features(pool, backbone.extractor, settings, store, device, progress, notes)
    of_views, viewed = None, None
    if views:
        rows = np.unique(np.concatenate([fold.train for fold in folds]))
        viewed = np.full(len(pool), -1)
        viewed[rows] = np.arange(len(rows))
        keys, symmetries = (
            [c[k] for k in rows] for c in (pool.real.keys, pool.real.column("symmetry"))
        )
        with progress(f"{VERSION.split()[0]} augmentation") as count:
            of_views = view_features(
                pool.encoded, rows.tolist(), keys, symmetries, backbone.extractor, store,
                views=settings.views, side=settings.side, device=device, on_images=count,
                on_message=notes.append,
            )  # fmt: skip
    lr: dict[str, Any] = {} if settings.lr is None else {"lr": settings.lr}
    probe = Probe(features, pool.targets, pool.exclusive, of_views, viewed, settings.steps,
                  settings.batch, hidden=settings.hidden, device=device, **lr)  # fmt: skip
    return probe, time.monotonic() - began


def _features(
    pool: Pool,
    extractor: Extractor,
    settings: "Settings",
    store: Path,
    device: str,
    progress: Progress,
    notes: list[str],
) -> np.ndarray:
    """(P, D) float32 of all images."""
    made, surveys = [], []
    sources: list[tuple[str, Any]] = [("real images", pool.real)]
    sources += [(each.path.name, each.images) for each in pool.sets]
    for name, images in sources:
        with progress(name) as count:
            found = extract(images, [extractor], store, side=settings.side, device=device,
                            on_images=count, on_message=notes.append)  # fmt: skip
        if bad := found.survey.unreadable:
            row, why = next(iter(bad.items()))
            raise VesaliusError(f"{len(bad)} of {name} cannot be read, image {row} first: {why}")
        made.append(found.features[extractor.name])
        surveys.append(found.survey)
    for each in surveys[1:]:
        notes += [f"unlike files: {line}" for line in unfair(surveys[0], each)]
    return np.concatenate(made)
