"""What `save_to_disk` of the `datasets` library writes, read by Arrow alone.

A `Dataset` is a folder with `state.json`, which lists its Arrow files, and `dataset_info.json`,
which names the columns' types. A `DatasetDict` is one such folder a split and `dataset_dict.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.base import Item
from vesalius.pairs.readers.parquet import Shard, make_shard, rows
from vesalius.pairs.settings import ReaderOptions


def read(source: Path, options: ReaderOptions) -> Iterator[Item]:
    """The rows of a saved `Dataset` or `DatasetDict`, split by split, in their order.

    Columns are understood as in `parquet.read`. Keys are `FILE:ROW`, `SPLIT/FILE:ROW` where there
    are splits.

    Raises VesaliusError for another folder, for files that are missing or damaged, and where no
    column holds images.
    """
    if (source / "dataset_dict.json").is_file():
        splits = _names(_json(source / "dataset_dict.json").get("splits"), source)
        files = [(path, split) for split in splits for path in _arrow_files(source / split)]
    else:
        files = [(path, None) for path in _arrow_files(source)]
    shards = [_shard(path, source, split, options) for path, split in files]
    for shard in shards:
        first = 0
        for batch in _batches(shard):
            yield from rows(batch, shard, first)
            first += batch.num_rows


def _arrow_files(folder: Path) -> list[Path]:
    listed = _json(folder / "state.json").get("_data_files")
    if not isinstance(listed, list) or not all(isinstance(file, dict) for file in listed):
        raise VesaliusError(f"{folder / 'state.json'} lists no data files: save the dataset again")
    return [folder / name for name in _names([file.get("filename") for file in listed], folder)]


def _names(found: Any, folder: Path) -> list[str]:
    """Names of things in `folder`, checked not to lead anywhere else."""
    names = found if isinstance(found, list) else []
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name:
            raise VesaliusError(f"{folder} lists {name!r}, which is no name of a file in it")
    return names


def _shard(path: Path, source: Path, split: str | None, options: ReaderOptions) -> Shard:
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            schema = stream.schema
            _ = schema.names  # damaged ones are no UTF-8
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    features = _json(path.parent / "dataset_info.json").get("features") or {}
    return make_shard(path, path.relative_to(source).as_posix(), schema, options, features, split)


def _batches(shard: Shard) -> Iterator[pa.RecordBatch]:
    try:
        # mapped, because one batch may hold a thousand images
        with pa.memory_map(str(shard.path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                batch.validate(full=True)  # offsets out of range would read foreign memory
                yield batch
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(shard.path, error) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VesaliusError(
            f"{path} cannot be read: a folder that `save_to_disk` of datasets wrote is needed"
        ) from error
    return content if isinstance(content, dict) else {}


def _damaged(path: Path, error: Exception) -> VesaliusError:
    reason = " ".join(str(error).split())[:120]
    return VesaliusError(f"{path} is missing or damaged ({reason}): save the dataset again")
