"""Features kept on disk by the content of the image, so that no run computes them twice.

A store is a folder; each extractor has a folder of its own in it, named after all that decides what
an image's features are (network, hash of its weights, resize). There lie safetensors shards: `key`
(n, 20) uint8, the SHA-1 of each image file, and `features` (n, D) float32. A shard appears whole by
a rename, so a stopped run keeps what it had and two runs at once do each other no harm.
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vesalius.core.atomic import atomic_path, told_plainly
from vesalius.errors import VesaliusError

SHARD_BYTES = 2**25
SHARD_SECONDS = 120  # a killed run loses no more
_KEY_BYTES = 20


class FeatureStore:
    """The features of one extractor: those on disk, and those of this run.

    With `root` None they are held in memory alone. Rows added are written when a shard is full, and
    by `close`.
    """

    def __init__(
        self,
        root: Path | None,
        identity: Mapping[str, str],
        on_message: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Find what is there. Raises VesaliusError for features of another extractor."""
        self.identity = dict(identity)
        self.folder = root / folder_name(identity) if root else None
        self._where: dict[str, tuple[int, int]] = {}  # key -> shard and row
        self._shards: list[np.ndarray] = []
        self._pending: dict[str, np.ndarray] = {}
        self._written = time.monotonic()
        for path in sorted(self.folder.glob("[!.]*.safetensors")) if self.folder else []:
            try:
                keys, features = _read(path, self.identity)
            except (SafetensorError, KeyError, ValueError):
                on_message(f"{path} is damaged: what it held is computed again")
                path.unlink(missing_ok=True)
                continue
            self._take_in(keys, features)

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Positions of `keys` that have no features yet; of equal keys the first."""
        first = {key: k for k, key in reversed(list(enumerate(keys)))}
        return sorted(
            k for key, k in first.items() if key not in self._where and key not in self._pending
        )

    def add(self, keys: Sequence[str], features: np.ndarray) -> None:
        """Keep rows (n, D). Raises VesaliusError where they cannot be written or are not finite."""
        if not np.isfinite(features).all():
            raise VesaliusError(f"{self.identity['extractor']} gave NaN or infinity for an image")
        self._pending.update(zip(keys, features.astype(np.float32), strict=True))
        full = len(self._pending) * features.shape[1] * 4 >= SHARD_BYTES
        if self.folder and (full or time.monotonic() - self._written > SHARD_SECONDS):
            self.close()

    def close(self) -> None:
        """Write what is pending."""
        if not self._pending:
            return
        keys, features = list(self._pending), np.stack(list(self._pending.values()))
        if self.folder:
            _write(self.folder, self.identity, keys, features)
        self._take_in(keys, features)
        self._pending, self._written = {}, time.monotonic()

    def take(self, keys: Sequence[str]) -> np.ndarray:
        """The features of `keys`, (n, D) float32, in their order: one at least, and all there."""
        self.close()
        places = np.array([self._where[key] for key in keys])  # (n, 2)
        out = np.empty((len(keys), self._shards[places[0, 0]].shape[1]), np.float32)
        for number in np.unique(places[:, 0]):
            here = places[:, 0] == number
            out[here] = self._shards[number][places[here, 1]]
        return out

    def _take_in(self, keys: Sequence[str], features: np.ndarray) -> None:
        self._where.update({key: (len(self._shards), row) for row, key in enumerate(keys)})
        self._shards.append(features)


def folder_name(identity: Mapping[str, str]) -> str:
    """Readable, and different for each identity: `inception-tf1-0a1b2c3d4e`."""
    name = re.sub(r"[^\w.-]+", "-", identity["extractor"]).strip("-")[-40:]
    about = repr(sorted(identity.items())).encode()
    return f"{name}-{hashlib.sha1(about, usedforsecurity=False).hexdigest()[:10]}"


def _read(path: Path, identity: dict[str, str]) -> tuple[list[str], np.ndarray]:
    with safe_open(path, "np") as file:
        made_with = file.metadata() or {}
        keys, features = file.get_tensor("key"), file.get_tensor("features")
    if other := sorted(k for k in identity | made_with if identity.get(k) != made_with.get(k)):
        raise VesaliusError(
            f"{path} holds features of another extractor ({', '.join(other)} differ): remove it, or "
            "name another store"
        )
    if keys.shape != (len(features), _KEY_BYTES):
        raise ValueError("rows without a key")
    return [row.tobytes().hex() for row in keys], features


def _write(folder: Path, identity: dict[str, str], keys: list[str], features: np.ndarray) -> None:
    key = np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, _KEY_BYTES)
    data = save({"key": key, "features": features}, identity)
    name = hashlib.sha1(key.tobytes(), usedforsecurity=False).hexdigest()[:16]
    with told_plainly(folder, len(data)), atomic_path(folder / f"{name}.safetensors") as temporary:
        temporary.write_bytes(data)
