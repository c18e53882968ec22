"""What a generator was trained on, as a user names it: a run, its list of images, or a pairs table."""

from pathlib import Path

from vesalius.core.paths import expanded
from vesalius.core.trained_on import ROWS_FILE, TrainedOn, find_rows, read_rows
from vesalius.errors import VesaliusError
from vesalius.pairs.table import Pairs, read_pairs


def read_trained_on(path: Path | str) -> list[TrainedOn]:
    """A run's folder or its training_rows.json, or the training rows of a pairs table.

    A run with an adapter for each label has a list for each. Raises VesaliusError where it is
    neither.
    """
    path = expanded(path)
    if path.suffix == ".parquet":
        pairs = read_pairs(path)
        return [TrainedOn.of_rows(path.name, pairs.column, pairs.rows("train"))]
    if file := find_rows(path):
        if file.is_file():
            return [read_rows(file, str(path))]
    elif files := sorted(path.glob(f"*/{ROWS_FILE}")):
        return [read_rows(file, str(file.parent)) for file in files]
    raise VesaliusError(f"{path} is no run with a {ROWS_FILE}, and no pairs table")


def lists_of(pairs: Pairs, name: str) -> list[TrainedOn]:
    """What a training on a table may have seen: all training rows, or those of one label."""
    rows, labels = pairs.rows("train"), pairs.column("label")
    by_label: dict[str, list[int]] = {}
    for row in rows:
        by_label.setdefault(labels[row] or "", []).append(row)
    parts = [rows, *(some for label, some in sorted(by_label.items()) if label)]
    return [TrainedOn.of_rows(name, pairs.column, some) for some in parts if some]
