"""Features of images: decoded once, resized once for each way, pushed through every network.

How images are resized decides FID figures by whole points; `vesalius.models.networks.resize` names the ways.
"""

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vesalius.core.tensor_store import TensorStore, keys_of_hashes, open_store
from vesalius.errors import VesaliusError
from vesalius.images.image_set import ImageSet, Survey, survey
from vesalius.images.pixels import open_rgb, square
from vesalius.models.networks.extractors import Extractor
from vesalius.models.networks.resize import View

_T = TypeVar("_T")
_R = TypeVar("_R")
_BATCH = {"cuda": 128, "cpu": 16}


@dataclass(frozen=True)
class Extracted:
    """The features of a set, and what could not be taken of it."""

    survey: Survey  # of all images; its `unreadable` names those that have no features
    rows: np.ndarray  # (n,) int64: which image of the set each row of features is of
    features: dict[str, np.ndarray]  # extractor's name -> (n, D) float32


def extract(
    images: ImageSet,
    extractors: Sequence[Extractor],
    store: Path | None = None,
    *,
    side: int | None = None,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    workers: int | None = None,
    on_images: Callable[[int, int], None] = lambda done, total: None,
    on_message: Callable[[str], None] = lambda message: None,
) -> Extracted:
    """Features of every image by every extractor, in one pass over the images that need it.

    With `side` each image is first made a square of that size (short side, centre cut out), as
    generators see theirs in training: for real images of other shapes than the synthetic ones.
    What lies in the folder `store` is not computed again, and what is computed is kept there.
    `on_images` gets the images done and how many there are to do.

    Images that cannot be read are left out and listed in `survey.unreadable`.
    Raises VesaliusError where the store cannot be written or a network gives no numbers.
    """
    workers = workers or min(16, os.cpu_count() or 1)
    about = survey(images, workers)
    shape = {"square": str(side)} if side else {}
    readable = [k for k in range(len(images)) if k not in about.unreadable]
    keys = [about.keys[k] for k in readable]
    stores = [open_features(store, {**e.identity, **shape}, keys, on_message) for e in extractors]
    wanted: dict[int, list[int]] = {}  # place in `readable` -> the extractors that lack it
    for number, one in enumerate(stores):
        for place in one.missing():
            wanted.setdefault(place, []).append(number)

    def load(place: int) -> dict[View, np.ndarray] | str:
        views = {extractors[number].view for number in wanted[place]}
        try:
            image = open_rgb(images.encoded(readable[place]))
        except VesaliusError as error:
            return str(error)
        pixels = square(image, side) if side else np.asarray(image)
        return {view: view.prepare(pixels) for view in views}

    size = batch_size or _BATCH.get(torch.device(device).type, 16)
    bad: dict[str, str] = {}
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            stream = ahead(pool, load, sorted(wanted), 2 * size + workers)
            while batch := list(islice(stream, size)):
                bad |= {keys[k]: found for k, found in batch if isinstance(found, str)}
                whole = {k: found for k, found in batch if not isinstance(found, str)}
                _push(whole, wanted, extractors, stores, device)
                done += len(batch)
                on_images(done, len(wanted))
        finally:
            for one in stores:
                one.flush()
    about.unreadable.update({k: bad[about.keys[k]] for k in readable if about.keys[k] in bad})
    places = [place for place, k in enumerate(readable) if k not in about.unreadable]
    found = {
        e.name: features_of(one, places) if places else np.empty((0, e.dims), np.float32)
        for e, one in zip(extractors, stores, strict=True)
    }
    return Extracted(about, np.array([readable[p] for p in places], np.int64), found)


def open_features(
    root: Path | None,
    identity: Mapping[str, str],
    hashes: Sequence[str],
    on_message: Callable[[str], None] = lambda message: None,
) -> TensorStore:
    """The store of an extractor's features of images, by the SHA-1 of their files.

    Below `root` each extractor has a folder of its own, named after all that decides what an image's
    features are (network, hash of its weights, resize). Without `root` they are held in memory.
    """
    folder = root / folder_name(identity) if root else None
    return open_store(folder, dict(identity), keys_of_hashes(hashes), on_message)


def folder_name(identity: Mapping[str, str]) -> str:
    """Readable, and different for each identity: `inception-tf1-0a1b2c3d4e`."""
    name = re.sub(r"[^\w.-]+", "-", identity["extractor"]).strip("-")[-40:]
    about = repr(sorted(identity.items())).encode()
    return f"{name}-{hashlib.sha1(about, usedforsecurity=False).hexdigest()[:10]}"


def add_features(store: TensorStore, places: Sequence[int], features: np.ndarray) -> None:
    """Keep rows (n, D) of features for some places of a store."""
    store.add(places, {"features": torch.from_numpy(features.astype(np.float32))})


def features_of(store: TensorStore, places: Sequence[int]) -> np.ndarray:
    """The features of some places of a store, (n, D) float32: one at least, and all there."""
    return store.rows("features")[torch.tensor(places)].numpy()


def _push(
    batch: Mapping[int, dict[View, np.ndarray]],
    wanted: Mapping[int, list[int]],
    extractors: Sequence[Extractor],
    stores: Sequence[TensorStore],
    device: torch.device | str,
) -> None:
    """A batch of prepared images through the extractors that lack them."""
    shared: dict[tuple[View, tuple[int, ...]], Tensor] = {}  # networks of one view share its batch
    for number, (extractor, store) in enumerate(zip(extractors, stores, strict=True)):
        rows = tuple(index for index in batch if number in wanted[index])
        if not rows:
            continue
        view = extractor.view
        if (view, rows) not in shared:
            shared[view, rows] = view.batch([batch[index][view] for index in rows], device)
        add_features(store, rows, extractor(shared[view, rows]))


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[_T], _R], items: Iterable[_T], most: int
) -> Iterator[tuple[_T, _R]]:
    """Each item with what `work` made of it, in order; `most` are under way or waiting."""
    waiting: deque[tuple[_T, Future[_R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= most:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
