"""A linear probe on Inception features as the judge of generated images, and what it is told by.

A logistic regression a label (`evaluate.alignment.fit_probe`) on real training images; its AUROC on
held-out real ones says how far to trust it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.features import inception_features, read_features, write_features
from benchmarks.train.learning import SIDE, content_hash
from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.alignment import Probe, fit_probe
from vesalius.models.networks.inception import Inception
from vesalius.pairs.table import Pairs, square

WINDOWS = 5  # a side of the grid of windows that are covered
WINDOW = SIDE // 4  # pixels


@dataclass
class Judge:
    """Inception and the probe: images to each label's log-odds."""

    network: Inception
    device: str
    probe: Probe

    def odds(self, images: Iterable[np.ndarray], *labels: str) -> np.ndarray:
        """Log-odds (N, L) of `labels` for uint8 images (H, W, 3)."""
        sides = (square(Image.fromarray(image), SIDE) for image in images)
        features = inception_features(sides, network=self.network, device=self.device)
        return self.probe(features)[:, [self.probe.findings.index(label) for label in labels]]

    def chances(self, images: Iterable[np.ndarray], *labels: str) -> np.ndarray:
        """Probabilities (N, L)."""
        return 1 / (1 + np.exp(-self.odds(images, *labels)))


def usual_caption(pairs: Pairs, source: str, label: str) -> str:
    """The commonest caption of a label."""
    columns = zip(*(pairs.column(name) for name in ("source", "label", "caption")), strict=True)
    counts = Counter(c for s, found, c in columns if (s, found) == (source, label))
    if not counts:
        raise VesaliusError(f"no image of {source} has the label {label!r}")
    return max(sorted(counts), key=counts.__getitem__)


def make_judge(
    pairs: Pairs, source: str, labels: Sequence[str], store: Path, most: int | None, device: str
) -> tuple[Judge, dict[str, float]]:
    """The probe of a set's real training images, and each label's AUROC on the held-out ones.

    Of the real images `most` are used, chosen at random; their features are kept in `store`.
    Raises VesaliusError where one of `labels` has too few.
    """
    from sklearn.metrics import roc_auc_score

    network = Inception()
    rows = [k for k, name in enumerate(pairs.column("source")) if name == source]
    rows = np.random.default_rng(0).permutation(rows)[:most].tolist()
    content = content_hash([pairs.column("sha1")[row] for row in rows])
    path = store / f"real-{source}-{content}.safetensors"
    if not path.exists():
        images = (pairs.image(row, SIDE) for row in rows)
        write_features(path, features=inception_features(images, network=network, device=device))
    features = read_features(path)["features"]
    shown = np.array([pairs.column("label")[row] for row in rows])
    train = np.array([pairs.column("split")[row] == "train" for row in rows])
    probe = fit_probe(features[train], shown[train].tolist())
    if lost := set(labels) - set(probe.findings):
        raise VesaliusError(f"too few training images of {sorted(lost)} for a probe")
    found, truth = probe(features[~train]), shown[~train]
    trust = {
        label: float(roc_auc_score(truth == label, found[:, column]))
        for column, label in enumerate(probe.findings)
        if 0 < (truth == label).sum() < len(truth)
    }
    return Judge(network, device, probe), trust


def windows() -> list[tuple[slice, slice]]:
    """Squares of a grid over an image, as (rows, columns)."""
    starts = np.linspace(0, SIDE - WINDOW, WINDOWS).round().astype(int)
    return [(slice(y, y + WINDOW), slice(x, x + WINDOW)) for y in starts for x in starts]


def fall(judge: Judge, images: Sequence[np.ndarray], label: str) -> np.ndarray:
    """How far log-odds fall when each window is covered with the image's mean: (N, windows)."""

    def covered() -> Iterator[np.ndarray]:
        for image in images:
            for window in windows():
                hidden = image.copy()
                hidden[window] = image.mean((0, 1))
                yield hidden

    without = judge.odds(covered(), label).reshape(len(images), -1)
    return judge.odds(images, label) - without


def with_interval(values: np.ndarray) -> list[float]:
    """Mean of (N,) and its 95 % interval, by bootstrap."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(2000, len(values)))].mean(1)
    return [float(values.mean()), *map(float, np.quantile(means, (0.025, 0.975)))]


def show(figure: Any) -> str:
    """`0.512 [0.480, 0.544]`, or a number alone."""
    if not isinstance(figure, list):
        return f"{figure:.3g}"
    return "{:.3f} [{:.3f}, {:.3f}]".format(*figure)
