"""Parquet files of others: whatever is wrong with one is a single line, and what it claims is bounded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vesalius.errors import VesaliusError, first_line

BATCH_BYTES = 400_000_000  # of the rows that are decoded together
MOST_BYTES = 1_000_000_000  # of the columns that are held in memory, but for those of larger files


@contextmanager
def reading_parquet(path: Path | str) -> Iterator[None]:
    """Turn what the library raises of a file into a VesaliusError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise VesaliusError(
            f"{path} is not a Parquet file, or a damaged one ({first_line(error)})"
        ) from error


def open_parquet(path: Path | str) -> pq.ParquetFile:
    """Open a file; nothing of it is read yet. Raises VesaliusError where it is none."""
    with reading_parquet(path):
        file = pq.ParquetFile(path, memory_map=True)
        _ = file.schema_arrow.names  # damaged ones are no UTF-8
    if file.metadata.num_rows > Path(path).stat().st_size:
        raise VesaliusError(f"{path} is damaged: it claims {file.metadata.num_rows:,} rows")
    return file


def rows_at_once(file: pq.ParquetFile, number: int, wanted: Sequence[str], most: int) -> int:
    """Rows of a row group that fit in memory, even if each repeats the largest value that it can hold.

    A column with a dictionary stores a value once however many rows have it. `most` is the answer
    where there is no such column.
    """
    group, largest = file.metadata.row_group(number), 1
    if group.total_byte_size * min(most, group.num_rows) <= BATCH_BYTES:
        return most
    # Damaged details of a column end the process where they are looked at, and raise where it is read.
    next(file.iter_batches(1, row_groups=[number], columns=[*wanted]), None)
    for place in range(group.num_columns):
        if file.schema.column(place).path.partition(".")[0] not in wanted:
            continue
        if (column := group.column(place)).has_dictionary_page:
            largest = max(largest, column.total_uncompressed_size)
    return max(1, min(most, BATCH_BYTES // largest))


def read_columns(
    file: pq.ParquetFile, path: Path | str, names: list[str], groups: Sequence[int] | None = None
) -> pa.Table:
    """Some columns of all row groups or of these; never more of them than MOST_BYTES, or the file's size.

    A file that is as large as what it holds is no small one that blows up as it is read.
    """
    most = max(MOST_BYTES, Path(path).stat().st_size)
    groups = range(file.num_row_groups) if groups is None else groups
    batches, size = [], 0
    with reading_parquet(path):
        sizes = (rows_at_once(file, number, names, 65_536) for number in groups)
        rows = min(sizes, default=1)
        for batch in file.iter_batches(rows, row_groups=[*groups], columns=names):
            size += batch.nbytes
            if size > most:
                raise VesaliusError(
                    f"{path}: {', '.join(names[:3])} would take more than {most >> 20} MiB"
                )
            batches.append(batch)
        schema = pa.schema([file.schema_arrow.field(name) for name in names])
        return pa.Table.from_batches(batches, batches[0].schema if batches else schema)
