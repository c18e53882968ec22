"""Latents and text states of a pairs table, computed once and read from disk ever after.

The cache is a folder of two stores (see `core.tensor_store`). `images/` holds the posterior's `mean` and
`std` of every view, (C, h, w) each, found by the hash of the image's content and the view; `text/`
holds the text states of each distinct caption, (T, D) with T the tokens of all its chunks, found by
the hash of the caption. New rows and new captions are encoded, what is known is not; another
autoencoder empties `images/` alone, another text encoder `text/` alone.

Mean and std are kept, not one sample, so that every epoch draws its own sample of the posterior. A row
whose pairs say `symmetry: square` may have up to eight views, turned and mirrored as pixels before
encoding: turning latents instead is not the same (for a TAESD it costs 5 to 8 dB).
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vesalius.core.atomic import atomic_path, clear_write_errors
from vesalius.core.progress import Count
from vesalius.core.tensor_store import (
    SHARD_BYTES,
    MappedRows,
    Tensors,
    TensorStore,
    keys_of,
    open_store,
)
from vesalius.errors import VesaliusError
from vesalius.models.device import pick_precision
from vesalius.models.text import encode_prompts
from vesalius.pairs.table import Pairs
from vesalius.train.distributed import on_first_rank, world_size
from vesalius.train.session import Say, Session

# A GPU encodes faster than one core decodes.
DECODING_THREADS = min(16, os.cpu_count() or 1)
CACHE_FORMAT = 2  # of the shards and of how an image becomes the encoder's input


@dataclass(frozen=True)
class Latents:
    """Everything the denoiser's training reads, row for row as in the pairs table.

    On the CPU the large parts stay on disk, memory-mapped; elsewhere they are tensors.
    """

    mean: MappedRows | Tensor  # (M, C, h, w) float16
    std: MappedRows | Tensor | None  # the same, or None where the autoencoder is deterministic
    first: Tensor  # (N,) int64, row -> its first view; out of range for a row that is not read
    views: Tensor  # (N,) int64, row -> how many views, none for those
    text_states: MappedRows | Tensor  # (U, T, D) float16
    caption: Tensor  # (N,) int64, row -> text state
    empty_state: Tensor  # (T, D) float16, the empty caption
    scaling_factor: float  # 1 / std of the training rows' latents

    def to(self, device: str) -> "Latents":
        """The same with everything on `device`."""
        kinds = (Tensor, MappedRows)
        return replace(
            self, **{name: v.to(device) for name, v in vars(self).items() if isinstance(v, kinds)}
        )

    def sample(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Scaled posterior samples of one view of each of `rows`: (B, C, h, w) float32."""
        chance = torch.rand(len(rows), generator=draw, device=draw.device)
        chosen = self.first[rows] + (chance * self.views[rows]).long()
        mean = self.mean[chosen].float()
        if self.std is not None:
            noise = torch.randn(mean.shape, generator=draw, device=draw.device)
            mean = mean + self.std[chosen].float() * noise
        return mean * self.scaling_factor

    def text(self, rows: Tensor, dropped: Tensor) -> Tensor:
        """Text states of `rows`, the empty caption's where `dropped`: (B, T, D) float32."""
        states = self.text_states[self.caption[rows]]
        return torch.where(dropped[:, None, None], self.empty_state, states).float()


def turn(image: Tensor, symmetry: int) -> Tensor:
    """One of the eight symmetries of the square applied to (..., H, W): 0 leaves it as it is."""
    if symmetry & 4:
        image = image.flip(-1)
    return torch.rot90(image, symmetry & 3, (-2, -1))


def weights_hash(module: nn.Module, without: str | None = None) -> str:
    """Hash of every parameter and buffer: two models with the same hash give the same latents.

    Names that start with `without` are left out.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if without and name.startswith(without):
            continue
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True)
class Encoders:
    """The networks that latents and text states come from."""

    autoencoder: Any
    tokenizer: Any
    text_encoder: Any


@dataclass(frozen=True)
class CacheSettings:
    """What is encoded, and where it is kept."""

    size: int  # pixels
    views: int = 1  # symmetric views, 1 to 8, of a row that may have them; held-out rows get one
    chunks: int = 1  # windows of the text encoder that a caption may fill (see `models.text`)
    images_in: str = (
        "images"  # the store of the images, should there be one for each of several sizes
    )
    held_out: frozenset[int] | None = None  # rows of the split val that are read; None: all
    shard_bytes: int = SHARD_BYTES


def cached_latents(
    pairs: Pairs, encoders: Encoders, settings: CacheSettings, folder: Path, session: Session
) -> Latents:
    """The cache in `folder` after encoding what is missing there or stale; of processes, one encodes.

    Raises VesaliusError for a table without training rows or hashes, and for a full disk.
    """

    def work() -> Latents:
        with session.progress("encoding images") as progress:
            return _cached_latents(pairs, encoders, settings, folder, progress, session.on_message)

    if world_size() > 1:
        on_first_rank(work)
    return work()


def _cached_latents(
    pairs: Pairs,
    encoders: Encoders,
    settings: CacheSettings,
    folder: Path,
    progress: Count,
    on_message: Say,
) -> Latents:
    train = pairs.rows("train")
    if not train:
        raise VesaliusError("the pairs table has no rows in the split train")
    count = _views(pairs, settings)
    first = count.cumsum(0) - count
    captions = sorted(set(pairs.column("caption")))
    prompts = [*captions, ""]
    opened = partial(
        open_store,
        on_message=lambda message: on_message(f"latents: {message}"),
        shard_bytes=settings.shard_bytes,
    )
    made_with, keys = _images_made_with(encoders, settings), _image_keys(pairs, count)
    images = opened(folder / settings.images_in, made_with, keys)
    text = opened(folder / "text", _text_made_with(encoders, settings), keys_of(prompts))
    on_message(
        f"latents: {_found(images.shard)} images and {_found(text.shard[:-1])} captions "
        "from the cache"
    )

    def encode_images(positions: list[int]) -> Tensors:
        rows = torch.searchsorted(first, torch.tensor(positions), right=True) - 1
        turns = torch.tensor(positions) - first[rows]
        pixels = _pixels(pairs, settings.size, rows.tolist(), turns.tolist(), threads)
        return _encode_images(encoders.autoencoder, pixels)

    def encode_captions(positions: list[int]) -> Tensors:
        chosen = [prompts[position] for position in positions]
        parts = (encoders.tokenizer, encoders.text_encoder)
        return {"states": encode_prompts(*parts, chosen, settings.chunks).half().cpu()}

    text.fill(encode_captions, 64)
    on_gpu = next(encoders.autoencoder.parameters()).device.type == "cuda"
    with ThreadPoolExecutor(DECODING_THREADS) as threads:
        images.fill(encode_images, 64 if on_gpu else 8, progress)
    mean, states = images.rows("mean"), text.rows("states")
    number = {caption: i for i, caption in enumerate(captions)}
    return Latents(
        mean=mean,
        std=images.rows("std") if "std" in images.shards[0] else None,
        first=first.masked_fill(count == 0, len(keys)),  # where there is nothing: never read
        views=count,
        text_states=states,
        caption=torch.tensor([number[caption] for caption in pairs.column("caption")]),
        empty_state=states[torch.tensor([len(captions)])][0],
        scaling_factor=_scaling_factor(images, first[train]),
    )


def _views(pairs: Pairs, settings: CacheSettings) -> Tensor:
    """How many views each row has, none if it is not read: (N,) int64."""
    several = zip(pairs.column("symmetry"), pairs.column("split"), strict=True)
    count = torch.tensor([settings.views if p == ("square", "train") else 1 for p in several])
    if settings.held_out is not None:
        unread = sorted({*pairs.rows("val")} - settings.held_out)
        count[torch.tensor(unread, dtype=torch.long)] = 0
    return count


def _image_keys(pairs: Pairs, count: Tensor) -> np.ndarray:
    hashes = pairs.column("sha1")
    if not all(hashes):
        raise VesaliusError(
            f"row {[bool(content) for content in hashes].index(False)} of the pairs table has no "
            "sha1: make the table with `vesalius pairs`"
        )
    named = zip(hashes, count.tolist(), strict=True)
    return keys_of(f"{content}/{view}" for content, several in named for view in range(several))


def _images_made_with(encoders: Encoders, settings: CacheSettings) -> dict[str, str]:
    return {
        "autoencoder": weights_hash(encoders.autoencoder),
        "cache format": str(CACHE_FORMAT),
        "image size": str(settings.size),
    }


def _text_made_with(encoders: Encoders, settings: CacheSettings) -> dict[str, str]:
    tokenizer, text_encoder = encoders.tokenizer, encoders.text_encoder
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    made_with = {
        "attention mask": str(getattr(text_encoder.config, "use_attention_mask", None)),
        "cache format": str(CACHE_FORMAT),
        "text encoder": weights_hash(text_encoder, without="pooler."),  # which decides no state
        "token window": str(tokenizer.model_max_length),
        "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest(),
    }
    if settings.chunks > 1:  # one is what caches without this entry hold
        made_with["caption chunks"] = str(settings.chunks)
    return made_with


def _found(shard: np.ndarray) -> str:
    return f"{np.count_nonzero(shard >= 0):,} of {len(shard):,}"


def _pixels(
    pairs: Pairs, size: int, rows: list[int], turns: list[int], threads: ThreadPoolExecutor
) -> Tensor:
    """Views of images, (B, 3, size, size) uint8; an image is decoded once for all of its views."""
    distinct = sorted({*rows})
    decoded = threads.map(lambda row: pairs.image(row, size), distinct)
    pictures = dict(zip(distinct, decoded, strict=True))
    images = [
        turn(torch.from_numpy(pictures[row].copy()).permute(2, 0, 1), symmetry)
        for row, symmetry in zip(rows, turns, strict=True)
    ]
    return torch.stack(images)


@torch.no_grad()
def _encode_images(autoencoder: Any, pixels: Tensor) -> Tensors:
    device = next(autoencoder.parameters()).device
    pixels = pixels.to(device).float() / 127.5 - 1
    # only where a card multiplies it: a CPU without such instructions takes tens of times as long
    rounded = device.type == "cuda" and pick_precision(device) == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=rounded):
        output = autoencoder.encode(pixels.contiguous(memory_format=torch.channels_last))
    if hasattr(output, "latents"):  # AutoencoderTiny has no posterior, only a point
        return {"mean": output.latents.half().cpu()}
    posterior = output.latent_dist
    return {"mean": posterior.mean.half().cpu(), "std": posterior.std.half().cpu()}


def _scaling_factor(images: TensorStore, train: Tensor) -> float:
    """1 / std of the means of the views `train`; kept beside the shards, as it reads all of them.

    Raises VesaliusError where the latents do not vary.
    """
    about = repr(sorted(images.made_with.items())).encode() + images.keys[train.numpy()].tobytes()
    rows = hashlib.sha256(about).hexdigest()
    assert images.folder is not None, "latents are cached on disk"
    path = images.folder / "scaling.json"
    try:
        stored = json.loads(path.read_text())
        if stored["rows"] == rows:
            return float(stored["scaling_factor"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never written, or damaged: it is computed again
    mean, total, squares, numbers = images.rows("mean"), 0.0, 0.0, 0
    for chunk in train.split(256):  # in the table's order: the same sum whatever the shards
        values = mean[chunk].double()
        total, squares = total + values.sum().item(), squares + values.square().sum().item()
        numbers += values.numel()
    variance = (squares - total**2 / numbers) / max(1, numbers - 1)
    if not variance > 0:
        raise VesaliusError("the latents of the training rows do not vary: are they all one image?")
    factor = variance**-0.5
    with clear_write_errors(path, 200), atomic_path(path) as temporary:
        temporary.write_text(json.dumps({"rows": rows, "scaling_factor": factor}, indent=1))
    return factor
