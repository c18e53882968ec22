"""The utility experiment: arms, amounts of real data, folds and seeds, judged on real test images.

`utility` writes `results.json`, `report.html` and `predictions.parquet` (every probability, so that
anybody can compute the scores again); docs/utility.md says what is in them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vesalius.core.progress import Progress, no_progress
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_device
from vesalius.pairs.trained_on import read_trained_on
from vesalius.utility.backbones import about, find_backbone, make_learner
from vesalius.utility.features import PoolFeatures
from vesalius.utility.folds import check_classes, divide
from vesalius.utility.grid import grid
from vesalius.utility.judgement import judge_all
from vesalius.utility.layout import budgets_of, lay_out
from vesalius.utility.leakage import check_all
from vesalius.utility.outputs import RESULTS, write_outputs
from vesalius.utility.pool import read_pool
from vesalius.utility.results import Experiment, Utility, about_device, about_set, describe, finite
from vesalius.utility.settings import UtilitySettings


def utility(
    real: Path | str,
    synthetic: Path | str | Sequence[Path | str],
    out: Path | str,
    settings: UtilitySettings | None = None,
    *,
    command: str = "",
    progress: Progress = no_progress,
    on_warning: Callable[[str], None] = lambda message: None,
) -> Utility:
    """Does training with the synthetic images make a classifier better on real ones?

    Args:
        real: a pairs table; with `settings.folds` its splits count for nothing.
        synthetic: a folder with `manifest.jsonl`, or several that are taken together; with folds maybe
            one a fold.
        out: the folder for results.
        settings: see `UtilitySettings`.
        command: the command line, for the report.
        progress: makes a progress bar of a few words.
        on_warning: gets what a user must know.

    Raises VesaliusError for input that cannot be judged honestly.
    """
    settings, out, began = settings or UtilitySettings(), Path(out), time.monotonic()
    _check_folder(out, overwrite=settings.overwrite)
    backbone = find_backbone(settings.backbone, settings.tune)
    pool = read_pool(real, synthetic, settings)
    folds, notes = divide(pool, test_split=settings.test_split, folds=settings.folds, seed=0)
    notes = [*pool.real.notes, *notes]

    with progress("looking for copies") as count:
        count(0, None)
        given = [one for path in settings.learned_from for one in read_trained_on(path)]
        folds, checks = check_all(pool, folds, given, allow_unproven=settings.allow_unproven)
    for fold in folds:
        check_classes(pool, fold, " that is no copy of another side's")
    for check in checks:
        if check.status in ("unproven", "note"):
            on_warning(check.message)

    layouts = lay_out(pool, folds, settings.parsed_arms(), budgets_of(settings), settings.seeds)
    store, device = settings.store or out / "features", str(pick_device(settings.device))
    source = PoolFeatures(pool, store, settings.side, device, progress, notes)
    ready = time.monotonic()
    with _interrupted(store if settings.tune == "probe" else None):
        learner = make_learner(backbone, source, folds, settings)
        extraction = time.monotonic() - ready
        with progress("training") as count:
            runs = grid(folds, layouts, learner, count)
    with progress("comparing") as count:
        judged = judge_all(pool, folds, runs, settings.replicates, count)

    done = Experiment(settings, pool, folds, checks, layouts, runs, judged, notes)
    verdict, document = describe(done)
    document = finite(document | {
        "command": command,
        "settings": settings.as_dict(),
        "backbone": about(settings.backbone, backbone),
        "classifier": learner.about,
        "device": about_device(device),
        "synthetic": [about_set(each) for each in pool.sets],
        "real": {"path": str(real), "images": len(pool.real)},
        "seconds": {
            "features": round(extraction, 1),
            "training": round(sum(r.seconds for each in runs.values() for r in each.values()), 1),
            "all": round(time.monotonic() - began, 1),
        },
    })  # fmt: skip
    write_outputs(document, pool, folds, runs, out, samples=settings.samples)
    return Utility(verdict, checks, out, document)


@contextmanager
def _interrupted(store: Path | None) -> Iterator[None]:
    """Say of an interruption what is kept."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        message = "interrupted: no results were written"
        if store:
            message += f"; features are kept in {store}; repeat the command to resume"
        raise KeyboardInterrupt(message) from interrupt


def _check_folder(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise VesaliusError(f"{out} is a file, not a folder: choose another --out")
    if (out / RESULTS).exists() and not overwrite:
        raise VesaliusError(f"{out} holds results already: choose another --out, or --overwrite")
