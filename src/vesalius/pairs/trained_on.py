"""What a generator was trained on, as a user names it: a run, its list of images, or a pairs table."""

from pathlib import Path

from vesalius.core.trained_on import ROWS_FILE, TrainedOn, find_rows, read_rows
from vesalius.errors import VesaliusError
from vesalius.pairs.table import read_pairs


def read_trained_on(path: Path | str) -> TrainedOn:
    """A run's folder or its training_rows.json, or the training rows of a pairs table.

    Raises VesaliusError where it is neither.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        pairs = read_pairs(path)
        return TrainedOn.of_rows(path.name, pairs.column, pairs.rows("train"))
    file = find_rows(path)
    if file is None or not file.is_file():
        raise VesaliusError(f"{path} is no run with a {ROWS_FILE}, and no pairs table")
    return read_rows(file, str(path))
