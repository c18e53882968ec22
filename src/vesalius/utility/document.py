"""What results.json says of an experiment, besides how it was called; docs/utility.md has the schema."""

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from vesalius._version import __version__
from vesalius.utility.grid import Runs
from vesalius.utility.judgement import Judged, Run, correct, fairness, verdict
from vesalius.utility.layout import Layout
from vesalius.utility.leakage import Check
from vesalius.utility.pool import Fold, Pool, Synthetic
from vesalius.utility.scores import Truth
from vesalius.utility.subgroups import COLUMNS

FORMAT = "vesalius utility 1"
_UNPROVEN = " The generator may have seen test images, so this proves nothing."
_LIBRARIES = ("torch", "numpy", "timm", "transformers", "peft", "pillow", "pyarrow")


def describe(
    pool: Pool,
    folds: Sequence[Fold],
    checks: Sequence[Check],
    notes: Sequence[str],
    laid: Sequence[Layout],
    judged: Sequence[Judged],
    found: Runs,
    truth: Truth,
    *,
    cross_validated: bool,
    replicates: int,
) -> dict[str, Any]:
    """The answer, what it rests on, and every figure and comparison."""
    comparisons = correct(judged)
    last = next(each for each in reversed(judged) if each.best)  # the most real images
    rows = np.concatenate([fold.test for fold in folds])
    names = [name for name in COLUMNS if name in pool.real.pairs.table.column_names]
    columns = {name: [pool.real.column(name)[k] for k in rows] for name in names}
    runs = found[last.budget]
    unproven = [check.message for check in checks if check.status == "unproven"]
    answer = verdict(last, comparisons, len(truth))
    if unproven:  # whoever reads no further than the first sentences must know
        answer["headline"] += _UNPROVEN
    return {
        "format": FORMAT,
        "vesalius": __version__,
        "verdict": answer,
        "unproven": unproven,
        "honesty": [check.as_dict() for check in checks],
        "notes": list(notes),
        "versions": _versions(),
        "task": {
            "kind": pool.kind,
            "classes": list(pool.classes),
            "images": {
                side: _per_class(pool, np.concatenate([getattr(f, side) for f in folds]))
                for side in ("train", "validation", "test", "synthetic")
            },
            "folds": len(folds) if cross_validated else 0,
        },
        "budgets": [
            {"name": each.budget, "best": each.best, "baseline": each.baseline,
             "left_out": [one.as_dict() for one in layout.left_out],
             "arms": [_arm(name, found[each.budget][name], each.arms[name]) for name in each.arms]}
            for layout, each in zip(laid, judged, strict=True)
        ],
        "comparisons": comparisons,
        "equality": fairness(truth, runs, ("real", last.best or "real"), columns, replicates),
    }  # fmt: skip


def _arm(name: str, run: Run, judged: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "kind": run.arm.kind,
        "ratio": run.arm.ratio or None,
        "synthetic_images": run.synthetic,
        "real_images": run.real,
        "note": run.note,
        "validation_auroc": float(run.validation.mean()),
        "chosen": run.chosen,
        "seconds": round(run.seconds, 2),
        **judged,
    }


def _per_class(pool: Pool, rows: np.ndarray) -> dict[str, int]:
    rows = np.unique(rows)
    counts = pool.targets[rows].sum(0).astype(int).tolist()
    return {"all": len(rows), **dict(zip(pool.classes, counts, strict=True))}


def about_set(each: Synthetic) -> dict[str, Any]:
    """Which set, and what made it."""
    told = {
        k: each.about.get(k) for k in ("model", "model_hash", "adapters", "plan", "training_rows")
    }
    return {"path": str(each.path), "images": len(each.labels), **told}


def about_device(device: str) -> str:
    """What the experiment ran on."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON has not, and without NumPy's types."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
