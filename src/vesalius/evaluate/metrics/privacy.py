"""Has a generated image been copied from a training image?

`copies` compares each image with the whole training set, not only with the images of its prompt, in
several spaces: structure, as the guard does while generating; the 16-tile pixel distance of Carlini
et al. 2023; and whatever features are given. How near is too near is told by real images that the
model never saw: their distances to the training set are those of honest new images, and what lies
below a low quantile of them deserves a look. No figure here proves that a set is private.

`nearest` is the perceptual distance, for pictures of the closest pairs: cosine similarity of
Inception features gives a shortlist, LPIPS picks the nearest of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.copies import (
    Copies,
    Share,
    Space,
    TileRows,
    find_copies,
    structure_copies,
)
from vesalius.images.calibration import calibrate_index, nearest_of, some
from vesalius.images.duplicates import Duplicate, clusters, find_duplicates
from vesalius.images.image_set import ImageSet
from vesalius.images.nearness import as_tiles, turned
from vesalius.images.training_index import REPEAT, ImageIndex, Progress, open_index


@dataclass(frozen=True)
class Privacy:
    """What the comparison with training images found; see `copies`."""

    spaces: dict[str, Copies]  # structure, tiles, then those of the features
    duplicates: list[Duplicate]  # pairs within the synthetic set, enough to connect all copies
    repeated: Share | None  # held-out images that are duplicates of training images
    n: int
    n_train: int
    n_held_out: int
    notes: Sequence[str]

    @property
    def duplicated(self) -> Share:
        """Synthetic images that are a copy of an earlier one of their set."""
        return Share(len(self.duplicates), self.n)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without rows of images."""
        groups = clusters(self.n, self.duplicates)
        return {
            "n": self.n,
            "n_train": self.n_train,
            "n_held_out": self.n_held_out,
            "held_out_repeats": self.repeated.as_dict() if self.repeated else None,
            "spaces": {name: each.as_dict() for name, each in self.spaces.items()},
            "duplicates": self.duplicated.as_dict()
            | {"largest": int(np.bincount(groups[groups >= 0]).max(initial=0))},
            "notes": list(self.notes),
        }


def copies(
    synthetic: ImageSet,
    training: ImageSet,
    held_out: ImageSet,
    *,
    features: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None,
    quantile: float = 0.01,
    symmetries: Sequence[int] = (0,),
    cache: Path | None = None,
    device: str = "cpu",
    permutations: int = 999,
    seed: int = 0,
    on_progress: Progress = lambda done, total: None,
) -> Privacy:
    """Compare every synthetic image with every training image, in each space.

    `features` gives (N, D), (M, D) and (H, D) of the three sets by the extractor's name; they are
    compared by angle. `symmetries` (see `images.duplicates.turn`) are those in which pixels are compared;
    structure always is in all eight. `quantile` is the rate of false alarms on honest images.
    Small versions of all images are kept in `cache` (~/.cache/vesalius/bank).

    Raises VesaliusError for an empty set, an image that cannot be read, features of another number
    of images, and where pixels or features have no real image to calibrate on.
    """
    if not len(synthetic) or not len(training):
        raise VesaliusError("copies need at least one synthetic and one training image")
    made, trained, held = (
        open_index(images, cache, on_progress=on_progress)
        for images in (synthetic, training, held_out)
    )
    spaces: dict[str, Copies] = {}
    rows = some(len(held))
    near = nearest_of(trained, held, rows, on_progress=on_progress)
    repeated = near.distance[:, 0] <= REPEAT
    spaces["structure"] = structure_copies(
        made, trained, near, calibrate_index(trained, near, quantile)
    )
    some_held = held.part(rows)
    every = [_tile_space(made, trained, some_held, symmetries)]
    for name, (ours, theirs, others) in (features or {}).items():
        _check(name, (ours, theirs, others), (made, trained, held))
        every.append(_feature_space(name, ours, theirs, others[rows]))
    for space in every:
        spaces[space.name] = find_copies(
            space, trained, some_held, repeated, quantile=quantile, device=device,
            permutations=permutations, seed=seed,
        )  # fmt: skip
    return Privacy(
        spaces,
        _duplicates(made),
        Share(int(repeated.sum()), len(rows)) if len(rows) else None,
        len(made),
        len(trained),
        len(held),
        _notes(made, trained, held, rows, int(repeated.sum())),
    )


def _notes(
    made: ImageIndex, trained: ImageIndex, held: ImageIndex, rows: np.ndarray, repeats: int
) -> list[str]:
    found = []
    if same := len(set(made.keys) & set(trained.keys)):
        found.append(f"{same} synthetic files are training images, byte for byte")
    if same := len(set(held.keys) & set(trained.keys)):
        found.append(f"{same} held-out files are training images, byte for byte")
    if same := len({g for g in held.groups if g} & set(trained.groups)):
        found.append(f"{same} groups have both training and held-out images")
    if repeats:
        found.append(
            f"{repeats} of {len(rows)} held-out images are duplicates of a training image: they are "
            "no new images, and what is said of held-out images here leaves them out"
        )
    if len(rows) < len(held):
        found.append(f"{len(rows)} of {len(held)} held-out images were compared, drawn at random")
    return found


def _tile_space(
    made: ImageIndex, trained: ImageIndex, held: ImageIndex, symmetries: Sequence[int]
) -> Space:
    """Grey pixels at 64 px in 16 tiles."""
    chosen = list(symmetries)
    ours, theirs = (
        as_tiles(turned(bank.look(range(len(bank))).thumbs)[chosen][..., None])
        for bank in (made, held)
    )
    return Space("tiles", ours, TileRows(trained), theirs)


def _feature_space(name: str, *sets: np.ndarray) -> Space:
    """Directions of features, compared by the chord between them: 0 to 2."""
    ours, theirs, others = (
        unit(features).astype(np.float32)[None, :, None] * features.shape[1] ** 0.5
        for features in sets
    )
    return Space(name, ours, torch.from_numpy(theirs[0]), others)


def _check(name: str, sets: Sequence[np.ndarray], banks: Sequence[ImageIndex]) -> None:
    for features, bank in zip(sets, banks, strict=True):
        if len(features) != len(bank) or features.shape[1] != sets[0].shape[1]:
            raise VesaliusError(
                f"{name}: features {features.shape} are not those of {len(bank)} images"
            )


def _duplicates(made: ImageIndex) -> list[Duplicate]:
    thumbs = made.look(range(len(made))).thumbs
    halved = thumbs.reshape(len(thumbs), 32, 2, 32, 2).mean(axis=(2, 4))
    return find_duplicates(
        np.rint(halved).astype(np.uint8), made.keys, pixels=lambda row: thumbs[row]
    )


def unit(x: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to length one; a row of zeros stays zero."""
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
