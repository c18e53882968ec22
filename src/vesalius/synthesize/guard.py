"""What is asked of each generated image before it is kept: is it blank, broken, or a near-copy?"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.errors import VesaliusError
from vesalius.images.calibration import (
    EVERY,
    FARTHEST,
    Calibration,
    calibrate_index,
    nearest_of,
    some,
)
from vesalius.images.duplicates import FLAT
from vesalius.images.nearness import Threshold
from vesalius.images.training_index import (
    ImageIndex,
    Progress,
    default_cache,
    look,
    open_index,
    traits,
    whole,
)
from vesalius.pairs.table import read_pairs

Reason = Literal["", "blank", "broken", "near-copy"]

_VERSION = 1  # of how images are judged
# What is broken lies far outside of what was trained on, so that no honest image is lost:
_MARGIN = 1.5  # times what all but one in a thousand training images stay below
_TINT = 10.0  # levels of colour that grey images may have
_FAR = 1.25  # times the layout distance of the farthest held-out image


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one image."""

    accepted: bool
    reason: Reason = ""  # why not, "" when accepted
    distance: float | None = None  # to the nearest training image; None where it was not looked for
    nearest: str = ""  # sha1 of that training image


class Judge(Protocol):
    """Anything that accepts or rejects images; the engine knows no more than this of a guard."""

    @property
    def about(self) -> dict[str, Any]:
        """What it goes by, as JSON: thresholds, what they were calibrated on, which rows it saw."""
        ...

    def __call__(self, images: Sequence[np.ndarray]) -> list[Verdict]:
        """One verdict an image, uint8 (H, W, 3). An image's verdict is blind to its neighbours."""
        ...


def derived_seed(seed: int, attempt: int) -> int:
    """The seed of the `attempt`-th try at a row: the row's own for 0, else a hash of both.

    Within 0..2^63-1, so that a retried row can be asked for again by that seed alone.
    """
    if attempt == 0:
        return seed
    digest = hashlib.sha256(f"vesalius retry {seed} {attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Guard:
    """The judge that knows the training images: blank, broken and copied images are rejected."""

    def __init__(
        self, training: ImageIndex, calibration: Calibration, about: dict[str, Any]
    ) -> None:
        self.training, self.calibration = training, calibration
        self._blank = min(FLAT, float(training.traits[:, 0].min()) / 2)
        self._broken = _MARGIN * np.quantile(training.traits[:, 1:], 0.999, axis=0) + (_TINT, 0, 0)
        self._farthest = min(FARTHEST, _FAR * calibration.farthest)
        limits = {
            "least_contrast": self._blank,
            "most_colour": float(self._broken[0]),
            "most_roughness": float(self._broken[1]),
            "most_roughness_of_blocks": float(self._broken[2]),
            "farthest_layout": self._farthest,
        }
        self.about = about | {"limits": limits, "calibration": calibration.as_dict()}

    def __call__(self, images: Sequence[np.ndarray]) -> list[Verdict]:
        """One verdict an image, uint8 (H, W, 3); see `Verdict`."""
        read = [whole(image) for image in images]
        verdicts: list[Verdict | None] = [self._bad(traits(image)) for image in read]
        good = [k for k, verdict in enumerate(verdicts) if verdict is None]
        if good:
            near = self.training.nearest(look([read[k] for k in good]))
            found = zip(near.index[:, 0], near.distance[:, 0], near.layout, strict=True)
            for k, (row, distance, layout) in zip(good, found, strict=True):
                verdicts[k] = self._near(int(row), float(distance), float(layout))
        return [verdict for verdict in verdicts if verdict is not None]

    def _bad(self, found: np.ndarray) -> Verdict | None:
        if found[0] < self._blank:
            return Verdict(False, "blank")
        if (found[1:] > self._broken).any():
            return Verdict(False, "broken")
        return None

    def _near(self, row: int, distance: float, layout: float) -> Verdict:
        reason: Reason = ""
        if distance <= self.calibration.threshold(self.training.sources[row]).value:
            reason = "near-copy"
        elif layout > self._farthest:
            reason = "broken"
        return Verdict(not reason, reason, distance, self.training.keys[row])


def build_guard(
    pairs_path: Path | str,
    *,
    quantile: float = 0.01,
    threshold: float | None = None,
    cache: Path | str | None = None,
    device: str = "cpu",
    on_progress: Progress = lambda done, total: None,
) -> Guard:
    """The guard of a model that was trained on the `train` rows of a pairs table.

    About `quantile` of honest new images are rejected with the copies: thresholds are calibrated on
    the rows of `val` and `test`, for each source (see `vesalius.images.calibration`); `threshold`, a
    distance from 0 to 1, takes their place. The first start reads all images; what is kept in
    `cache` (~/.cache/vesalius/bank) makes later ones fast, also of tables that share images.

    Raises VesaliusError where the table is none, has no training rows or images that cannot be read.
    """
    if not 0 < quantile < 0.5:
        raise VesaliusError(f"the guard's quantile is {quantile:g}: it must be between 0 and 0.5")
    if threshold is not None and not 0 <= threshold <= 1:
        raise VesaliusError(f"the guard's threshold is {threshold:g}: it must be between 0 and 1")
    pairs = read_pairs(pairs_path)
    splits = pairs.column("split")
    if not (train := [row for row, split in enumerate(splits) if split == "train"]):
        raise VesaliusError(f"{pairs_path} has no training rows: there is nothing to guard")
    held_out = [row for row, split in enumerate(splits) if split in ("val", "test")]
    folder = Path(cache) if cache else default_cache()
    training = open_index(pairs.take(train), folder, device, on_progress)
    about = {
        "training_images": len(training),
        "training_rows": training.digest,
        "distance": "1 - local structure similarity at 64 px, nearest of 8 by colour layout",
        "quantile": quantile if threshold is None else None,
        "guard_version": _VERSION,
    }
    if threshold is not None:
        fixed = {EVERY: Threshold(threshold, 0.0, 0, 0.0, 1.0, "given")}
        return Guard(training, Calibration(fixed, 0, {}, FARTHEST), about)
    held = open_index(pairs.take(held_out), folder, on_progress=on_progress)
    return Guard(training, _calibrated(folder, training, held, quantile, on_progress), about)


def _calibrated(
    folder: Path, training: ImageIndex, held_out: ImageIndex, quantile: float, on_progress: Progress
) -> Calibration:
    """The calibration, from the cache where the same images were calibrated before."""
    inputs = [_VERSION, quantile]
    inputs += [list(zip(b.keys, b.sources, b.groups, strict=True)) for b in (training, held_out)]
    path = (
        folder / f"calibration-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]}.json"
    )
    try:
        return Calibration.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # never written, or damaged: it is made again
    near = nearest_of(training, held_out, some(len(held_out)), on_progress=on_progress)
    made = calibrate_index(training, near, quantile)
    with clear_write_errors(path, 10_000), atomic_path(path) as temporary:
        temporary.write_text(json.dumps(made.as_dict(), indent=1))
    return made
