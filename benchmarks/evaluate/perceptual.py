"""The nearest training image by eye: LPIPS over a shortlist by features.

Cosine similarity of features gives a shortlist, LPIPS picks the nearest of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from vesalius.evaluate.metrics.spaces import unit
from vesalius.models.networks.lpips import LPIPS

# index -> uint8 (S, S, 3) RGB; images are asked for one by one, so they need not be in memory
Images = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Nearest:
    """For each query its nearest training image: `index` (N,) int64 and LPIPS `distance` (N,)."""

    index: np.ndarray
    distance: np.ndarray


def shortlist(queries: np.ndarray, training: np.ndarray, size: int = 10) -> np.ndarray:
    """The `size` training rows most like each query by cosine similarity, most alike first.

    queries (N, D), training (M, D) features -> (N, min(size, M)) indices into `training`.
    """
    similarity = unit(queries) @ unit(training).T  # (N, M)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :size]


@torch.inference_mode()
def nearest(
    queries: Images,
    query_features: np.ndarray,
    training: Images,
    training_features: np.ndarray,
    *,
    size: int = 10,
    distance: LPIPS | None = None,
) -> Nearest:
    """The nearest training image of each query, by LPIPS over a shortlist of `size`.

    All images have one size; 128 or 256 px suit LPIPS. Features are (N, D) and (M, D), M at least
    1. Raises VesaliusError when the LPIPS weights are missing.
    """
    distance = distance or LPIPS("alex")
    candidates = shortlist(query_features, training_features, size)
    index = np.empty(len(candidates), np.int64)
    best = np.empty(len(candidates), np.float32)
    for i, rows in enumerate(candidates):
        others = torch.stack([signed(training(int(row))) for row in rows])  # (K, 3, S, S)
        distances = distance(signed(queries(i))[None], others).numpy()
        index[i], best[i] = rows[distances.argmin()], distances.min()
    return Nearest(index, best)


def signed(image: np.ndarray) -> torch.Tensor:
    """uint8 (S, S, 3) -> float32 (3, S, S) in [-1, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
