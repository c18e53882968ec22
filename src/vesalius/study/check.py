"""Can a machine tell the arms of a study by what is not the picture?

A logistic regression on features of the files, cross-validated by matched images, must not tell real
images from those of another arm better than chance does. Left and right of the arms are compared besides:
a mirrored set would be known by its hearts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, fisher_exact

from vesalius._version import __version__
from vesalius.core.atomic import atomic_path
from vesalius.core.callable_room import callable_as
from vesalius.core.documents import write_document
from vesalius.errors import VesaliusError
from vesalius.statistics.figure import Figure
from vesalius.statistics.logistic import cross_validated
from vesalius.statistics.roc import detection, roc
from vesalius.study.database import check_not_begun
from vesalius.study.features import Seen, see, table
from vesalius.study.hashes import built_digest, image_hashes
from vesalius.study.key import REAL, KeyItem, KeyTrial, read_items, read_trials
from vesalius.study.layout import Layout, open_study
from vesalius.study.settings import CheckSettings

callable_as(__name__, f"{__name__}:check")

_SIDED, _MIRRORED = 0.001, 0.01  # p below which real images have sides, and a set is turned
_MORE = 0.25  # share of turned images beyond that of the real ones
_FEWEST = 10  # images of an arm: fewer show nothing


@dataclass(frozen=True)
class Clue:
    """How well one feature alone tells an arm: its AUC, at least .5."""

    name: str
    auc: float
    real: float  # means
    other: float


@dataclass(frozen=True)
class ArmCheck:
    """What was found of one arm against the real one."""

    arm: str
    auc: Figure
    clues: list[Clue]  # of the container, those that tell most first; constant ones are left out
    reported: list[Clue]  # sharpness and noise: of the picture, which readers may see
    turned: (
        tuple[float, float] | None
    )  # shares of real and other images; None: real ones have no sides
    turned_p: float | None

    @property
    def reasons(self) -> list[str]:
        """Why the arm can be told; empty where it cannot."""
        found = []
        if self.auc.low is not None and self.auc.low > 0.5:
            told = ", ".join(f"{clue.name} ({clue.auc:.2f})" for clue in self.clues[:3])
            found.append(f"{self.arm} is told from real images by {told}")
        if self.turned and self.turned_p is not None and self.turned_p < _MIRRORED:
            real, other = self.turned
            if other - real > _MORE:
                found.append(
                    f"{self.arm} is mirrored: left and right are exchanged in {100 * other:.0f} % of its "
                    f"images, and in {100 * real:.0f} % of the real ones"
                )
        return found


@dataclass(frozen=True)
class Checked:
    """The result of `check`."""

    arms: list[ArmCheck]
    images: str  # digest of what was looked at

    @property
    def reasons(self) -> list[str]:
        """Why `lock` refuses; empty where it does not."""
        return [reason for arm in self.arms for reason in arm.reasons]

    def __repr__(self) -> str:
        lines = [
            f"{arm.arm}: a machine tells {arm.auc.n} files apart with an AUC of {arm.auc.value:.2f} "
            f"({arm.auc.low:.2f} to {arm.auc.high:.2f}); .5 is chance"
            for arm in self.arms
        ]
        return "\n".join([*lines, *self.reasons])

    def as_dict(self) -> dict[str, Any]:
        """For check.json."""
        arms = [
            {
                "arm": arm.arm,
                "auc": arm.auc.as_dict(),
                "clues": [vars(clue) for clue in arm.clues],
                "reported": [vars(clue) for clue in arm.reported],
                "turned": list(arm.turned) if arm.turned else None,
                "turned_p": arm.turned_p,
                "reasons": arm.reasons,
            }
            for arm in self.arms
        ]
        return {
            "format": 1,
            "version": __version__,
            "images": self.images,
            "arms": arms,
            "reasons": self.reasons,
        }


def check(folder: Path | str, settings: CheckSettings | None = None) -> Checked:
    """Look at all scored images of the study in `folder`, and write check.json.

    Raises VesaliusError where it is no study, or has too few images to tell anything.
    """
    settings, layout = settings or CheckSettings(), open_study(folder)
    if layout.lock.exists():
        raise VesaliusError(f"{folder} is locked: check.json says what was found before")
    check_not_begun(layout)
    items = read_items(layout.key)
    scored = _scored(items, read_trials(layout.key_trials))
    seen = _see(layout, scored)
    by_name = {item.item: item for item in scored}
    arms = []
    for arm in dict.fromkeys(item.arm for item in scored if item.arm != REAL):
        others = [item for item in scored if item.arm == arm]
        reals = [by_name[o.matched] for o in others if o.matched in by_name]
        if len(reals) < _FEWEST:
            raise VesaliusError(f"{arm} has {len(reals)} matched images: {_FEWEST} are the fewest")
        arms.append(compare(arm, reals, others, seen, settings))
    checked = Checked(arms, built_digest(layout, image_hashes(layout)))
    with atomic_path(layout.check) as temporary:
        write_document(temporary, checked.as_dict())
    return checked


def _scored(items: Sequence[KeyItem], trials: Sequence[KeyTrial]) -> list[KeyItem]:
    """The images that count in some result."""
    names = {name for t in trials if t.kind == "scored" for name in t.items.split(",")}
    return [item for item in items if item.item in names]


def _see(layout: Layout, items: Sequence[KeyItem]) -> dict[str, Seen]:
    trials = read_trials(layout.key_trials)
    last = {trial.reader: trial.position for trial in trials}
    places: dict[str, list[float]] = {}
    prompted: set[str] = set()
    for trial in trials:
        for name in trial.items.split(","):
            if trial.kind == "scored":
                places.setdefault(name, []).append(trial.position / max(1, last[trial.reader]))
            if trial.task == "alignment":
                prompted.add(name)
    return {
        item.item: see(
            layout.image(item.item),
            float(np.mean(places[item.item])),
            item.prompt if item.item in prompted else "",
        )
        for item in items
    }


def compare(
    arm: str,
    reals: Sequence[KeyItem],
    others: Sequence[KeyItem],
    seen: Mapping[str, Seen],
    settings: CheckSettings,
) -> ArmCheck:
    """One arm against the real images that it is matched with; `seen` are the features of all by name."""
    shown = [seen[item.item] for item in (*reals, *others)]
    positive = np.arange(len(shown)) >= len(reals)
    names, x = table([one.container for one in shown])
    pictures = table([one.picture for one in shown])
    groups = np.r_[np.arange(len(reals)), _partners(reals, others)]
    files = _Files(x, names.index("blockiness"), pictures[1], groups)
    real, other = (np.stack([seen[i.item].asymmetry for i in some]) for some in (reals, others))
    turned, p = _turned(real, other)
    clues = _clues(names, files.adjusted(positive), positive)
    auc = _auc(files, positive, settings)
    return ArmCheck(arm, auc, clues, _clues(*pictures, positive), turned, p)


@dataclass(frozen=True)
class _Files:
    """Features of files, row for row."""

    container: np.ndarray  # (N, D)
    blocks: int  # the column of blockiness
    pictures: np.ndarray  # (N, 2)
    groups: np.ndarray  # (N,) which images are matched

    def adjusted(self, positive: np.ndarray) -> np.ndarray:
        """The features of the container, blockiness at equal sharpness."""
        x = self.container.copy()
        x[:, self.blocks] = _at_equal_sharpness(x[:, self.blocks], self.pictures, positive)
        return x

    def scores(
        self, positive: np.ndarray, settings: CheckSettings, rng: np.random.Generator
    ) -> np.ndarray:
        """Cross-validated scores (N,), the mean of several divisions into folds."""
        x = self.adjusted(positive)
        x = x[:, np.ptp(x, axis=0) > 0]
        runs = [
            cross_validated(x, positive, self.groups, settings.folds, rng)
            for _ in range(settings.repetitions)
        ]
        return np.mean(runs, axis=0)


def _auc(files: _Files, positive: np.ndarray, settings: CheckSettings) -> Figure:
    """AUC with its 95 % interval.

    A bootstrap takes the scores for given, though the same few files have made them, and would call equal
    arms different far too often. So the interval is as wide at least as the AUC varies where the arms
    of matched images are exchanged at random, and everything is done again.
    """
    rng = np.random.default_rng(settings.seed)
    found = detection(
        files.scores(positive, settings, rng),
        positive,
        files.groups.tolist(),
        replicates=settings.replicates,
        seed=settings.seed,
    ).auroc
    null = []
    for _ in range(settings.exchanges):
        exchanged = rng.random(int(files.groups.max()) + 1) < 0.5
        other = positive ^ exchanged[files.groups]
        if other.any() and not other.all():
            null.append(float(roc(files.scores(other, settings, rng), other).area))
    below, above = np.quantile(null, (0.025, 0.975)) - 0.5
    value, low, high = found.value or 0.0, found.low or 0.0, found.high or 1.0
    low, high = min(low, value - max(0.0, above)), max(high, value - min(0.0, below))
    return replace(found, low=max(0.0, float(low)), high=min(1.0, float(high)))


def _at_equal_sharpness(
    values: np.ndarray, pictures: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    """`values` (N,) less what sharpness and noise (N, 2) explain of them within each arm.

    The same JPEG leaves larger steps, for the rest of the picture, in a smooth one. Slopes within the arms
    know nothing of the difference between them.
    """
    logs = np.log(pictures + 0.1)
    within, own = logs.copy(), values.astype(float)
    for arm in (positive, ~positive):
        within[arm] -= within[arm].mean(0)
        own[arm] -= own[arm].mean()
    return values - logs @ np.linalg.lstsq(within, own, rcond=None)[0]


def _partners(reals: Sequence[KeyItem], others: Sequence[KeyItem]) -> np.ndarray:
    """Which of the real images each other one is matched with."""
    place = {item.item: k for k, item in enumerate(reals)}
    return np.array([place.get(o.matched, len(reals) + k) for k, o in enumerate(others)])


def _clues(names: Sequence[str], x: np.ndarray, positive: np.ndarray) -> list[Clue]:
    found = []
    for name, values in zip(names, x.T, strict=True):
        if np.ptp(values) > 0:
            area = float(roc(values, positive).area)
            means = (float(values[~positive].mean()), float(values[positive].mean()))
            found.append(Clue(name, max(area, 1 - area), *means))
    return sorted(found, key=lambda clue: -clue.auc)


def _turned(real: np.ndarray, other: np.ndarray) -> tuple[tuple[float, float] | None, float | None]:
    """Shares of images whose left is the real images' right, and the p of a turned set.

    `real` (N, S, S) and `other` (M, S, S) are differences of left and right. None where the real images
    do not agree on a left and a right.
    """
    total, count = real.sum(0), len(real)
    own = np.array([(one * (total - one)).sum() for one in real]) < 0
    if binomtest(int((~own).sum()), count, 0.5, alternative="greater").pvalue > _SIDED:
        return None, None
    theirs = (other * total).sum((1, 2)) < 0
    counts = [[int(some.sum()), int((~some).sum())] for some in (theirs, own)]
    p = float(fisher_exact(counts, alternative="greater").pvalue)  # pyright: ignore
    return (float(own.mean()), float(theirs.mean())), p
