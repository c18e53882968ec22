"""The files that an experiment leaves: results.json, report.html and predictions.parquet."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.documents import write_document, write_page
from vesalius.report.pictures import ClassPictures, Source, draw_pictures
from vesalius.report.utility import utility_page
from vesalius.utility.arms import ABOUT
from vesalius.utility.folds import Fold
from vesalius.utility.grid import Runs
from vesalius.utility.pool import Pool

RESULTS, REPORT, PREDICTIONS = "results.json", "report.html", "predictions.parquet"
_NEEDED_BYTES = 50_000_000
SCORES = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "brier": "Brier score",
}


def write_outputs(
    document: Mapping[str, Any],
    pool: Pool,
    folds: Sequence[Fold],
    found: Mapping[str, Runs],
    out: Path,
    *,
    samples: int,
) -> None:
    """Write results.json, report.html and predictions.parquet, each whole or not at all."""
    import pyarrow.parquet as pq

    pictures = _samples(pool, folds, samples)
    page = utility_page(document, scores=SCORES, about=ABOUT, samples=pictures)
    table = predictions(pool, folds, found)
    with (
        clear_write_errors(out, _NEEDED_BYTES),
        # moved into place from the last to the first: a folder with results is whole
        atomic_path(out / RESULTS) as results,
        atomic_path(out / REPORT) as html,
        atomic_path(out / PREDICTIONS) as rows,
    ):
        pq.write_table(table, rows, compression="zstd")
        write_page(html, page)
        write_document(results, document)


def predictions(pool: Pool, folds: Sequence[Fold], found: Mapping[str, Runs]) -> Any:
    """Every test probability: a row an image, seed, arm and budget.

    `sha1` names the image, `group` numbers its patient, who is not named.
    """
    import pyarrow as pa

    rows = np.concatenate([fold.test for fold in folds])
    part = np.concatenate([np.full(len(fold.test), k) for k, fold in enumerate(folds)])
    named = [pool.real.groups[k] or f"\0{k}" for k in rows]
    groups = np.unique(named, return_inverse=True)[1]
    keys = [pool.real.keys[k] for k in rows]
    labels = [pool.real.labels[k] for k in rows]
    tables = [
        pa.table(
            {
                "budget": pa.array([budget] * len(rows)).dictionary_encode(),
                "arm": pa.array([name] * len(rows)).dictionary_encode(),
                "seed": np.full(len(rows), seed),
                "fold": part,
                "sha1": keys,
                "group": groups,
                "label": labels,
                **{f"p_{c}": p[:, k].astype(np.float32) for k, c in enumerate(pool.classes)},
            }
        )
        for budget, runs in found.items()
        for name, run in runs.items()
        for seed, p in enumerate(run.probabilities)
    ]
    return pa.concat_tables(tables).unify_dictionaries()


def _samples(pool: Pool, folds: Sequence[Fold], count: int) -> list[ClassPictures]:
    """Real training images beside synthetic ones of each class."""
    columns = {name: column for column, name in enumerate(pool.classes)}

    def of(rows: np.ndarray, name: str) -> list[int]:
        return rows[pool.targets[rows, columns[name]] > 0].tolist()

    sources = [
        Source("real", partial(of, folds[0].train), pool.encoded),
        Source("synthetic", partial(of, folds[0].synthetic), pool.encoded, 0),
    ]
    return draw_pictures(pool.classes, sources, count, seed=0)
