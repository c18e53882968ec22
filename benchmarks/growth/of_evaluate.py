"""Figures of `vesalius evaluate` by made-up features: as many synthetic images as real ones.

Features have 512 dimensions, 64 of which carry nearly all that varies; the two sets differ a little.
Real images are of patients with four each. For another width D, the time of neighbours and distances
goes with D, that of FID with D squared.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growth.measuring import Stage
from vesalius.evaluate.metrics.fidelity import fidelity
from vesalius.evaluate.metrics.memorising import CROWD
from vesalius.evaluate.metrics.spaces import unit
from vesalius.images.duplicates import embedding_duplicates
from vesalius.images.nearness import neighbours
from vesalius.statistics.anonymity import nearest, singling_out
from vesalius.statistics.distances import fid, kid, prdc
from vesalius.statistics.two_sample import log_ratio, memorising_test, tail_test

DIMS, RANK = 512, 64
PAIRS = 1000  # of a training and a held-out patient: as many at any size
SIZES = (500, 5_000, 50_000)

Two = tuple[np.ndarray, np.ndarray]


def features(size: int, folder: Path) -> Two:
    """(size, DIMS) float32 of real and of synthetic images."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((RANK, DIMS), np.float32) / RANK**0.5
    real, fake = np.empty((2, size, DIMS), np.float32)
    for each, spread in ((real, 1.0), (fake, 0.9)):
        for start in range(0, size, 5_000):
            part = each[start : start + 5_000]
            rng.standard_normal(dtype=np.float32, out=part)
            part *= 0.05
            part += spread * rng.standard_normal((len(part), RANK), np.float32) @ basis
    return real, fake


def of_fid(size: int, folder: Path, two: Two) -> dict[str, Any]:
    return {"fid": round(fid(*two), 6)}


def of_kid(size: int, folder: Path, two: Two) -> dict[str, Any]:
    return {"kid": round(kid(*two).mean, 9)}


def of_prdc(size: int, folder: Path, two: Two) -> dict[str, Any]:
    return {"precision": round(prdc(*two).precision, 6)}


def whole(size: int, folder: Path, two: Two) -> dict[str, Any]:
    """FID, KID, precision, recall, density, coverage, with intervals and the floor of real halves."""
    found = fidelity(*two, real_groups=[f"p{row // 4}" for row in range(size)])
    return {"fid": round(found["fid"].value or 0, 6), "floor": round(found["fid"].floor or 0, 6)}


def memorising(size: int, folder: Path, two: Two) -> dict[str, Any]:
    """The distance ratio and the memorised tail, a tenth of the real images held out."""
    (real, fake), held = two, size // 10
    real, fake = (unit(each)[:, None] * DIMS**0.5 for each in (real, fake))
    train, held_out = real[held:], real[:held]
    near, new = (neighbours(fake[None], side, CROWD) for side in (train, held_out))
    own = neighbours(held_out[None], train, 1)
    away = neighbours(held_out[None], held_out, 2).distance[:, 1]
    index = np.concatenate([near.index, new.index + len(train)], 1)
    distance = np.concatenate([near.distance, new.distance], 1)
    order = np.argsort(distance, 1, kind="stable")
    ratio = memorising_test(
        np.take_along_axis(index, order, 1),
        np.take_along_axis(distance, order, 1),
        np.arange(size) >= len(train),
        groups=[f"p{row // 4}" for row in range(size)],
    )
    tail = tail_test(
        log_ratio(near.distance[:, 0], new.distance[:, 0]),
        log_ratio(own.distance[:, 0], away),
        ([""] * size, [""] * held),
    )
    return {"ratio": round(ratio.ratio, 6), "tail p": round(tail.p if tail else 1.0, 4)}


def anonymity(size: int, folder: Path, two: Two) -> dict[str, Any]:
    """Singling out: distances of PAIRS patients of each kind, four images each, to all synthetic ones."""
    real, fake = (unit(each.astype(float)) for each in two)
    people = min(PAIRS, size // 8)
    groups = [range(4 * k, 4 * k + 4) for k in range(2 * people)]
    train, control = (nearest(fake, real, half) for half in (groups[:people], groups[people:]))
    return {"gain": round(singling_out(train, control).value or 0, 6)}


def copies(size: int, folder: Path, two: Two) -> dict[str, Any]:
    """Pairs of real images whose features are nearly the same, as of a copy detector."""
    return {"pairs found": len(embedding_duplicates(two[0], 0.95))}


STAGES = {
    "evaluate: fid": Stage("images a side", SIZES, of_fid, features),
    "evaluate: kid": Stage("images a side", SIZES, of_kid, features),
    "evaluate: prdc": Stage("images a side", SIZES, of_prdc, features),
    "evaluate: fidelity": Stage("images a side", SIZES, whole, features),
    "evaluate: memorising": Stage("images a side", SIZES, memorising, features),
    "evaluate: anonymity": Stage("images a side", SIZES, anonymity, features),
    "evaluate: copies": Stage("images", SIZES, copies, features),
}
