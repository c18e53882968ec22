"""The utility experiment: arms, amounts of real data, folds and seeds, judged on real test images.

`utility` writes `results.json`, `report.html` and `predictions.parquet` (every probability, so that
anybody can compute the scores again); docs/utility.md says what is in them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_device
from vesalius.pairs.trained_on import read_trained_on
from vesalius.utility import leakage
from vesalius.utility.arms import Arm, parse_arms
from vesalius.utility.backbones import Backbone, make_learner
from vesalius.utility.document import about_device, about_set, describe, finite
from vesalius.utility.grid import grid, truth_of_folds
from vesalius.utility.judgement import judge
from vesalius.utility.layout import Budget, lay_out
from vesalius.utility.pool import (
    check_classes,
    divide,
    make_pool,
    read_real,
    read_synthetic,
)
from vesalius.utility.report import RESULTS, write_report


@dataclass(frozen=True)
class Settings:
    """How the experiment is run; none of it is chosen by looking at the test images."""

    arms: tuple[str, ...] = ()  # kinds, see `arms`; none is all
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # synthetic images a real one, of `mixed`
    fractions: tuple[float, ...] = (1.0,)  # of the real training images
    shots: tuple[int, ...] = ()  # real training images a class
    sizes: tuple[int, ...] = ()  # real training images
    folds: int = 0  # 0: the table's own splits
    seeds: int = 5
    backbone: str = "inception"
    tune: Literal["probe", "full"] = "probe"
    hidden: int = 0  # of the probe; 0 is a linear one
    steps: int = 1000
    batch: int = 64
    lr: float | None = None  # the classifier's usual one
    views: int = 4  # augmented views of an image, for frozen features
    side: int | None = None  # make all images squares of so many pixels first
    test_split: str = "test"
    label: str = "label"
    where: Mapping[str, str] = field(
        default_factory=dict
    )  # column -> value, of real and synthetic rows
    replicates: int = 1000
    device: str = "auto"
    allow_unproven: bool = False
    samples: int = 6  # pictures of a class in the report


def utility(
    real: Path | str,
    synthetic: Path | str | Sequence[Path | str],
    out: Path | str,
    settings: Settings | None = None,
    *,
    seen: Sequence[Path | str] = (),
    store: Path | str | None = None,
    overwrite: bool = False,
    command: str = "",
    progress: Progress = no_progress,
    on_warning: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Does training with the synthetic images make a classifier better on real ones?

    Args:
        real: a pairs table; with `settings.folds` its splits count for nothing.
        synthetic: a folder with `manifest.jsonl`, or several that are taken together; with folds maybe
            one a fold.
        out: the folder for results.
        settings: see `Settings`.
        seen: what the generators learned from, where the sets do not prove it: runs, their
            training_rows.json, or pairs tables of which they saw the training rows.
        store: where features are kept, by the content of the images; by default `out`/features.
        overwrite: replace earlier results.
        command: the command line, for the report.
        progress: makes a progress bar of a few words.
        on_warning: gets what a user must know.

    Returns the document of results.json. Raises VesaliusError for input that cannot be judged
    honestly and for settings that make no sense.
    """
    settings, out, began = settings or Settings(), Path(out), time.monotonic()
    arms, budgets = _check(settings, out, overwrite)
    paths = [synthetic] if isinstance(synthetic, Path | str) else list(synthetic)
    backbone = Backbone.find(settings.backbone, settings.tune)
    table = read_real(real, settings.where, settings.label)
    pool = make_pool(
        table, [read_synthetic(path, table, settings.label, settings.where) for path in paths]
    )
    folds, notes = divide(pool, test_split=settings.test_split, folds=settings.folds, seed=0)
    with progress("looking for copies") as count:
        count(0, None)
        given = [read_trained_on(path) for path in seen]
        folds, checks = leakage.check_all(
            pool, folds, given, allow_unproven=settings.allow_unproven
        )
    for fold in folds:
        check_classes(pool, fold, " that is no copy of another side's")
    laid = lay_out(pool, folds, arms, budgets, settings.seeds)
    notes = [*table.notes, *notes]
    for check in checks:
        if check.status in ("unproven", "note"):
            on_warning(check.message)
    kept = Path(store) if store else out / "features"
    device = str(pick_device(settings.device))
    try:
        learner, extraction = make_learner(
            pool, folds, backbone, settings, kept, device, progress, notes,
            views=any(arm.kind == "augmented" for arm in arms),
        )  # fmt: skip
        with progress("training") as count:
            found = grid(folds, laid, learner, count)
    except KeyboardInterrupt as interrupt:
        told = "interrupted: no results were written"
        if backbone.extractor:
            told += f"; features are kept in {kept}, and the same command goes on from them"
        raise KeyboardInterrupt(told) from interrupt
    truth = truth_of_folds(pool, folds)
    share = float(np.mean([len(f.test) / max(1, len(f.train)) for f in folds]))
    with progress("comparing") as count:
        judged = []
        for number, budget in enumerate(budgets):
            judged.append(
                judge(truth, found[budget.name], budget.name,
                      test_share=share, times=settings.replicates)
            )  # fmt: skip
            count(number + 1, len(budgets))
    document = describe(
        pool, folds, checks, notes, laid, judged, found, truth,
        cross_validated=bool(settings.folds), replicates=settings.replicates,
    )  # fmt: skip
    document |= {
        "command": command,
        "settings": asdict(settings) | {"where": dict(settings.where)},
        "backbone": backbone.about,
        "classifier": learner.about,
        "device": about_device(device),
        "synthetic": [about_set(each) for each in pool.sets],
        "real": {"path": str(real), "images": len(table)},
        "seconds": {
            "features": round(extraction, 1),
            "training": round(sum(r.seconds for each in found.values() for r in each.values()), 1),
            "all": round(time.monotonic() - began, 1),
        },
    }
    document = finite(document)
    write_report(document, pool, folds, found, out, samples=settings.samples)
    return document


def _check(settings: Settings, out: Path, overwrite: bool) -> tuple[list[Arm], list[Budget]]:
    arms = parse_arms(settings.arms, settings.ratios)
    for name, least in (
        ("seeds", 1),
        ("hidden", 0),
        ("samples", 0),
        ("steps", 10),
        ("batch", 2),
        ("views", 1),
        ("replicates", 20),
    ):
        if getattr(settings, name) < least:
            raise VesaliusError(f"{name} is {getattr(settings, name)}: it must be at least {least}")
    if settings.side is not None and settings.side < 8:
        raise VesaliusError(f"side is {settings.side}: give 8 pixels or more")
    if settings.lr is not None and not 0 < settings.lr < 10:
        raise VesaliusError(f"lr is {settings.lr:g}: give a learning rate such as 0.001")
    if settings.folds == 1 or settings.folds < 0:
        raise VesaliusError(f"{settings.folds} folds: give 2 or more")
    if settings.tune not in ("probe", "full"):
        raise VesaliusError(f"--tune is {settings.tune!r}: probe or full")
    if bad := [f for f in settings.fractions if not 0 < f <= 1]:
        raise VesaliusError(f"a fraction of {bad[0]:g}: take one above 0 and at most 1")
    if any(k < 1 for k in (*settings.shots, *settings.sizes)):
        raise VesaliusError("shots and sizes are 1 or more")
    if out.exists() and not out.is_dir():
        raise VesaliusError(f"{out} is a file, not a folder: choose another --out")
    if (out / RESULTS).exists() and not overwrite:
        raise VesaliusError(f"{out} holds results already: choose another --out, or --overwrite")
    budgets = [Budget("shots", k) for k in sorted(set(settings.shots))]
    budgets += [Budget("size", k) for k in sorted(set(settings.sizes))]
    budgets += [Budget("fraction", f) for f in sorted(set(settings.fractions))]
    if not budgets:
        raise VesaliusError("give a fraction, shots or a size of the real training images")
    return arms, budgets
