"""Frozen features of a pool's images, and of augmented views of them, kept by content."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vesalius.core.progress import Count, Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.images.image_set import unfair
from vesalius.images.pixels import open_rgb, square
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.features import (
    add_features,
    ahead,
    extract,
    features_of,
    open_features,
)
from vesalius.utility.pool import Pool
from vesalius.utility.views import VERSION, augment, view_rng

_WORKERS = 4
_BATCH = {"cuda": 128, "cpu": 16}


@dataclass
class PoolFeatures:
    """Features of one pool by any extractor; `notes` gets what a reader must know."""

    pool: Pool
    store: Path | None
    side: int | None = None  # as of `extract`
    device: str = "cpu"
    progress: Progress = no_progress
    notes: list[str] = field(default_factory=list)

    def of_images(self, extractor: Extractor) -> np.ndarray:
        """(P, D) float32 of all images; notes what is unlike in real and synthetic files.

        Raises VesaliusError for images that cannot be read.
        """
        made, surveys = [], []
        sources: list[tuple[str, Any]] = [("real images", self.pool.real)]
        sources += [(each.path.name, each.images) for each in self.pool.sets]
        for name, images in sources:
            with self.progress(name) as count:
                found = extract(
                    images, [extractor], self.store, side=self.side, device=self.device,
                    on_images=count, on_message=self.notes.append,
                )  # fmt: skip
            if bad := found.survey.unreadable:
                row, why = next(iter(bad.items()))
                raise VesaliusError(
                    f"{len(bad)} of {name} cannot be read, image {row} first: {why}"
                )
            made.append(found.features[extractor.name])
            surveys.append(found.survey)
        for each in surveys[1:]:
            self.notes += [f"unlike files: {line}" for line in unfair(surveys[0], each)]
        return np.concatenate(made)

    def of_views(self, extractor: Extractor, rows: Sequence[int], views: int) -> np.ndarray:
        """(views, n, D) of augmented views of the real images `rows`."""
        with self.progress(f"{VERSION.split()[0]} augmentation") as count:
            return np.stack(
                [self._of_view(extractor, rows, (view, views), count) for view in range(views)]
            )

    def _of_view(
        self,
        extractor: Extractor,
        rows: Sequence[int],
        number: tuple[int, int],  # of the view, and of all
        count: Count,
    ) -> np.ndarray:
        view, views = number
        keys, symmetries = (
            [column[row] for row in rows]
            for column in (self.pool.real.keys, self.pool.real.column("symmetry"))
        )
        shape = {"square": str(self.side)} if self.side else {}
        identity = {**extractor.identity, **shape, "augmented": f"{VERSION}, view {view}"}
        store = open_features(self.store, identity, keys, self.notes.append)
        missing, size = store.missing(), _BATCH.get(torch.device(self.device).type, 16)
        done = view * len(missing)

        def load(place: int) -> np.ndarray:
            image = open_rgb(self.pool.encoded(int(rows[place])))
            made = augment(image, view_rng(keys[place], view), symmetries[place])
            return extractor.view.prepare(
                square(made, self.side) if self.side else np.asarray(made)
            )

        with ThreadPoolExecutor(_WORKERS) as threads:
            try:
                stream = ahead(threads, load, missing, 2 * size)
                while batch := list(islice(stream, size)):
                    x = extractor.view.batch([pixels for _, pixels in batch], self.device)
                    add_features(store, [place for place, _ in batch], extractor(x))
                    done += len(batch)
                    count(done, views * len(missing))
            finally:
                store.flush()
        return features_of(store, range(len(keys)))
