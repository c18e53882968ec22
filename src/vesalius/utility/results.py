"""What an experiment came to, and results.json of it; docs/utility.md has the schema."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius._version import __version__
from vesalius.core.versions import library_versions
from vesalius.utility.folds import Fold
from vesalius.utility.grid import Run, Runs
from vesalius.utility.judgement import (
    ArmScores,
    Judged,
    Verdict,
    correct,
    equality_of,
    truth_of_folds,
    verdict,
)
from vesalius.utility.layout import Layout
from vesalius.utility.leakage import Check
from vesalius.utility.pool import Pool, Synthetic
from vesalius.utility.settings import UtilitySettings
from vesalius.utility.subgroups import COLUMNS

FORMAT = "vesalius utility 1"
_LIBRARIES = ("torch", "numpy", "timm", "transformers", "peft", "pillow", "pyarrow")


@dataclass(frozen=True)
class Utility:
    """Whether synthetic images helped a classifier; what `vesalius.utility` returns."""

    verdict: Verdict
    checks: list[Check]
    folder: Path  # with report.html
    document: dict[str, Any]  # results.json

    def __repr__(self) -> str:
        return f"{self.verdict.headline}\n{self.folder / 'report.html'}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(arm['name'])}<td>{arm['real_images']}<td>{arm['synthetic_images']}"
            f"<td>{arm['figures']['auroc']['value'] or math.nan:.3f}"
            for arm in self.document["budgets"][-1]["arms"]
        )
        head = "<tr><th>arm<th>real images<th>synthetic images<th>AUROC"
        return f"<p>{html.escape(self.verdict.headline)}<table>{head}{rows}</table>"


@dataclass(frozen=True)
class Experiment:
    """All that was read, checked, trained and judged."""

    settings: UtilitySettings
    pool: Pool
    folds: Sequence[Fold]
    checks: Sequence[Check]
    layouts: Sequence[Layout]
    runs: Mapping[str, Runs]  # by the name of the amount of real images
    judged: Sequence[Judged]
    notes: Sequence[str]

    @property
    def unproven(self) -> list[str]:
        """What could not be proven."""
        return [check.message for check in self.checks if check.status == "unproven"]


def describe(done: Experiment) -> tuple[Verdict, dict[str, Any]]:
    """The answer, and what results.json says of it: what it rests on, every figure and comparison."""
    pool, folds, settings = done.pool, done.folds, done.settings
    truth, comparisons = truth_of_folds(pool, folds), correct(done.judged)
    last = next(each for each in reversed(done.judged) if each.best)  # the most real images
    answer = verdict(last, comparisons, len(truth), proven=not done.unproven)
    rows = np.concatenate([fold.test for fold in folds])
    names = [name for name in COLUMNS if name in pool.real.pairs.table.column_names]
    columns = {name: [pool.real.column(name)[k] for k in rows] for name in names}
    compared = ("real", last.best or "real")
    subgroups = equality_of(truth, done.runs[last.budget], compared, columns, settings.replicates)
    return answer, {
        "format": FORMAT,
        "vesalius": __version__,
        "verdict": asdict(answer),
        "unproven": done.unproven,
        "honesty": [asdict(check) for check in done.checks],
        "notes": list(done.notes),
        "versions": library_versions(_LIBRARIES),
        "task": {
            "kind": pool.kind,
            "classes": list(pool.classes),
            "images": {
                part: _per_class(pool, np.concatenate([getattr(f, part) for f in folds]))
                for part in ("train", "validation", "test", "synthetic")
            },
            "folds": len(folds) if settings.folds else 0,
        },
        "budgets": [
            {
                "name": each.budget,
                "best": each.best,
                "baseline": each.baseline,
                "left_out": [asdict(one) for one in layout.left_out],
                "arms": [
                    _arm(name, done.runs[each.budget][name], scores)
                    for name, scores in each.arms.items()
                ],
            }
            for layout, each in zip(done.layouts, done.judged, strict=True)
        ],
        "comparisons": [asked.as_dict() for asked in comparisons],
        "equality": [{"arm": name, **asdict(each)} for name, each in subgroups],
    }


def _arm(name: str, run: Run, scores: ArmScores) -> dict[str, Any]:
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
        **asdict(scores),
    }


def _per_class(pool: Pool, rows: np.ndarray) -> dict[str, int]:
    rows = np.unique(rows)
    counts = pool.targets[rows].sum(0).astype(int).tolist()
    return {"all": len(rows), **dict(zip(pool.classes, counts, strict=True))}


def about_set(each: Synthetic) -> dict[str, Any]:
    """Which set, and what made it."""
    names = ("model", "model_hash", "adapters", "plan", "training_rows")
    made = {name: each.about.get(name) for name in names}
    return {"path": str(each.path), "images": len(each.labels), **made}


def about_device(device: str) -> str:
    """What the experiment ran on."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


def finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have, and without NumPy's types."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
