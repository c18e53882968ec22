"""How images are compared when copies are looked for: by pixels in tiles, and by features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vesalius.errors import VesaliusError
from vesalius.images.nearness import as_tiles, turned
from vesalius.images.training_index import SIDE, ImageIndex

Features = Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # synthetic, training, held out


@dataclass(frozen=True)
class Space:
    """(V, N, T, D) views of some images and (M, T, D) rows of others, compared by `tile_distance`."""

    name: str
    synthetic: np.ndarray
    training: Any  # nearness.Rows
    held_out: np.ndarray


class TileRows:
    """The thumbs of an index as tiles of pixels in [0, 1], cut when they are asked for."""

    def __init__(self, index: ImageIndex) -> None:
        self.thumbs = index.thumbs

    def __len__(self) -> int:
        return len(self.thumbs)

    def __getitem__(self, rows: Any) -> Tensor:
        """(..., 16, D) for a slice or an index tensor (...)."""
        index = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows
        tiles = as_tiles(self.thumbs[index.flatten()].numpy().reshape(*index.shape, SIDE, SIDE, 1))
        return torch.from_numpy(tiles)


def tile_space(
    made: ImageIndex, trained: ImageIndex, held: ImageIndex, symmetries: Sequence[int]
) -> Space:
    """Grey pixels at 64 px in 16 tiles (Carlini et al. 2023)."""
    chosen = list(symmetries)
    ours, theirs = (
        as_tiles(turned(index.look(range(len(index))).thumbs)[chosen][..., None])
        for index in (made, held)
    )
    return Space("tiles", ours, TileRows(trained), theirs)


def feature_space(name: str, sets: Sequence[np.ndarray], rows: np.ndarray) -> Space:
    """Directions of features, compared by the chord between them: 0 to 2.

    `sets` are features of synthetic, training and held-out images, `rows` those of the last to take.
    """
    ours, theirs, others = (
        unit(features).astype(np.float32)[None, :, None] * features.shape[1] ** 0.5
        for features in (*sets[:2], sets[2][rows])
    )
    return Space(name, ours, torch.from_numpy(theirs[0]), others)


def check_features(features: Features, indexes: Sequence[ImageIndex]) -> None:
    """Raise VesaliusError where features are not those of the images."""
    for name, sets in features.items():
        for one, index in zip(sets, indexes, strict=True):
            if len(one) != len(index) or one.shape[1] != sets[0].shape[1]:
                raise VesaliusError(
                    f"{name}: features {one.shape} are not those of {len(index)} images"
                )


def unit(x: np.ndarray) -> np.ndarray:
    """Rows (N, D) scaled to length one; a row of zeros stays zero."""
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)
