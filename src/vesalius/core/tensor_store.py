"""Rows of tensors on disk, each found by the hash of what it was computed from.

A store is a folder of safetensors shards. In each, `key` (n, 20) uint8 names the rows, every other
tensor has n rows, and the header's metadata says what made them. Shards are complete in themselves:
there is no index that could disagree with them, each appears whole by a rename, and of two
processes that fill one folder at once neither can harm the other; at worst a row is encoded twice.

Shards are memory-mapped: opening a store reads headers and keys, and a row is read when it is
asked for. Rows that nobody asks for any more stay until what makes rows changes; then all go.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.stopping import raise_if_asked
from vesalius.core.tensors import encode_tensors
from vesalius.errors import VesaliusError

KEY_BYTES = 20
SHARD_BYTES = 2**26
SHARD_SECONDS = 120  # a slow encoder's shards are cut by time: a killed process loses no more

Tensors = dict[str, Tensor]  # of one shard or batch: the same number of rows each


@dataclass(frozen=True, eq=False)
class MappedRows:
    """One tensor (M, ...) whose rows lie in several memory-mapped shards."""

    shards: tuple[Tensor, ...]  # (n, ...) each
    shard: Tensor  # (M,) int64, row -> its shard
    offset: Tensor  # (M,) int64, row -> its place there

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Copies of `rows`, (B,) int64: (B, ...)."""
        shard, offset = self.shard[rows], self.offset[rows]
        out = self.shards[0].new_empty((len(rows), *self.shards[0].shape[1:]))
        for number in shard.unique().tolist():
            here = shard == number
            out[here] = self.shards[number][offset[here]]
        return out

    def to(self, device: str) -> "MappedRows | Tensor":
        """The rows as one tensor on `device`; on the CPU they stay mapped."""
        if torch.device(device).type == "cpu":
            return self
        first = self.shards[0]
        out = torch.empty((len(self), *first.shape[1:]), dtype=first.dtype, device=device)
        for rows in torch.arange(len(self)).split(1024):
            out[rows[0] : rows[-1] + 1] = self[rows].to(device)
        return out


@dataclass
class TensorStore:
    """The rows that are wanted of a folder, in the order of `keys`; see `open_store`.

    Without a folder all rows are held in memory.
    """

    folder: Path | None
    made_with: dict[str, str]
    keys: np.ndarray  # (M,) S20
    shards: list[Tensors]
    shard_bytes: int = SHARD_BYTES
    shard: np.ndarray = field(init=False)  # (M,) int64, -1 where the row is not there yet
    offset: np.ndarray = field(init=False)  # (M,) int64

    def __post_init__(self) -> None:
        self._pending: list[Tensors] = []
        self._written = time.monotonic()  # when the last shard was
        self.shard, self.offset = _find(self.shards, self.keys)

    def missing(self) -> list[int]:
        """Positions in `keys` whose rows are not there yet; of equal keys the first."""
        lacking = np.flatnonzero(self.shard < 0)
        _, first = np.unique(self.keys[lacking], return_index=True)
        return lacking[np.sort(first)].tolist()

    def add(self, positions: Sequence[int], tensors: Tensors) -> None:
        """Keep a row for each of some positions; written when a shard is full, and by `flush`.

        Raises VesaliusError where a shard cannot be written.
        """
        self._pending.append({"key": _as_tensor(self.keys[list(positions)]), **tensors})
        full = sum(map(_size, self._pending)) >= self.shard_bytes
        if self.folder and (full or time.monotonic() - self._written > SHARD_SECONDS):
            self._write()

    def flush(self) -> None:
        """Write what is pending; all rows that were added can then be read."""
        if self._pending:
            self._write()
        self.shard, self.offset = _find(self.shards, self.keys)

    def fill(
        self,
        encode: Callable[[list[int]], Tensors],
        batch: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Encode what is missing, `batch` rows at a time, and write it as it comes.

        `encode` gets positions in `keys` and returns one row for each. What was encoded before an
        interruption or an error is kept. Raises VesaliusError when the shards cannot be written.
        """
        missing = self.missing()
        try:
            for start in range(0, len(missing), batch):
                positions = missing[start : start + batch]
                self.add(positions, encode(positions))
                progress(start + len(positions), len(missing))
        finally:
            self.flush()

    def _write(self) -> None:
        batches, self._pending = self._pending, []
        tensors = {
            name: torch.cat([part[name] for part in batches]).contiguous() for name in batches[0]
        }  # contiguous: networks may answer in channels-last
        if self.folder:
            row_bytes = _size(tensors) // len(tensors["key"])
            lacking = np.count_nonzero(self.shard < 0)  # at most: of equal keys one is encoded
            with clear_write_errors(self.folder, row_bytes * int(lacking)):
                tensors = _write(self.folder, self.made_with, tensors)
        self.shards.append(tensors)
        self._written = time.monotonic()

    def rows(self, name: str) -> MappedRows:
        """The tensor `name` of every row, once all of them are there.

        Raises VesaliusError where a shard lacks it, or has rows of another shape or type.
        """
        kinds = {
            (shard[name].dtype, shard[name].shape[1:]) if name in shard else None
            for shard in self.shards
        }
        if None in kinds or len(kinds) > 1:
            raise VesaliusError(
                f"{self.folder} holds {name} of more than one shape, or not of every row: delete "
                "the folder, and it is made anew"
            )
        shards = tuple(shard[name] for shard in self.shards)
        return MappedRows(shards, torch.from_numpy(self.shard), torch.from_numpy(self.offset))


def keys_of(texts: Iterable[str]) -> np.ndarray:
    """SHA-1 of each text, (M,) S20: the names that rows are found by."""
    return np.array([hashlib.sha1(text.encode()).digest() for text in texts], f"S{KEY_BYTES}")


def keys_of_hashes(hashes: Iterable[str]) -> np.ndarray:
    """SHA-1 as 40 hex digits, of image files for one, as keys (M,) S20."""
    return np.array([bytes.fromhex(each) for each in hashes], f"S{KEY_BYTES}")


def open_store(
    folder: Path | None,
    made_with: dict[str, str],
    keys: np.ndarray,
    on_message: Callable[[str], None] = lambda message: None,
    shard_bytes: int = SHARD_BYTES,
) -> TensorStore:
    """Map the shards of `folder` that agree with `made_with`; delete the others.

    `made_with` names all that decides what a row holds besides the content in its key, in words
    (`{"autoencoder": hash, "image size": "128"}`): `on_message` gets which of it has changed,
    and which shards are damaged.
    """
    shards, changed = [], set()
    paths = folder.glob("[!.]*.safetensors") if folder else []  # dotted: somebody is writing them
    for path in sorted(paths):
        try:
            found, tensors = _map(path)
        except FileNotFoundError:  # another process has just deleted it
            continue
        except (SafetensorError, ValueError) as error:
            raise_if_asked(error)
            on_message(f"{path} is damaged; what it held is made anew")
            path.unlink(missing_ok=True)
            continue
        if found == made_with:
            shards.append(tensors)
        else:
            changed |= {name for name, _ in found.items() ^ made_with.items()}
            path.unlink(missing_ok=True)
    if changed:
        names = " and ".join(sorted(changed))
        on_message(f"{folder} was made with another {names}; it is made anew")
    return TensorStore(folder, made_with, keys, shards, shard_bytes)


def _map(path: Path) -> tuple[dict[str, str], Tensors]:
    """What made a shard, and its tensors, none of them read. Raises where it is damaged."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        made_with = file.metadata() or {}
    key = tensors.get("key")
    if key is None or key.dtype != torch.uint8 or key.shape[1:] != (KEY_BYTES,):
        raise ValueError("no keys")
    if any(tensor.shape[:1] != key.shape[:1] for tensor in tensors.values()):
        raise ValueError("rows without a key")
    return made_with, tensors


def _write(folder: Path, made_with: dict[str, str], tensors: Tensors) -> Tensors:
    # Named by what it is, so that two processes at the same work write the same files.
    about = repr(sorted(made_with.items())).encode() + tensors["key"].numpy().tobytes()
    path = folder / f"{hashlib.sha1(about).hexdigest()[:16]}.safetensors"
    data = encode_tensors(tensors, made_with)  # bytes first: a full disk is then an OSError
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return _map(path)[1]


def _size(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _find(shards: Sequence[Tensors], keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shard and offset of each key, both (M,) int64; -1 where no shard has it."""
    sizes = [len(tensors["key"]) for tensors in shards]
    shard = np.append(np.repeat(np.arange(len(sizes)), sizes), -1)
    offset = np.append(np.concatenate([[], *map(np.arange, sizes)]).astype(np.int64), -1)
    # -1, the last place, is that of what is missing
    place = np.full(len(keys), -1)
    if shards:
        stored = np.concatenate([_as_keys(tensors["key"]) for tensors in shards])
        order, asked = np.argsort(stored, kind="stable"), np.argsort(keys)
        stored, sought = stored[order], keys[asked]  # both sorted: one walk through the memory
        near = np.maximum(np.searchsorted(stored, sought, side="right") - 1, 0)
        there = np.flatnonzero(stored[near] == sought) if len(stored) else asked[:0]
        place[asked[there]] = order[near[there]]
    return shard[place], offset[place]


def _as_tensor(keys: np.ndarray) -> Tensor:
    return torch.from_numpy(keys.view(np.uint8).reshape(-1, KEY_BYTES))


def _as_keys(key: Tensor) -> np.ndarray:
    return key.numpy().view(f"S{KEY_BYTES}").reshape(-1)
