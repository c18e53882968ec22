"""Latents and text states of a pairs table, computed once and read from disk ever after.

The cache is a folder: `latents.safetensors` (posterior `mean` and `std` of M views, (M, C, h, w);
`first` and `views`, (N,), where each row's views begin and how many they are; text states of each
distinct caption, (U, T, D); `caption`, (N,), which of them belongs to each row) and
`fingerprint.json`, which says what it was made from. A cache made from anything else is rebuilt.

Mean and std are kept, not one sample, so that every epoch can draw anew from the posterior. A row
whose pairs say `symmetry: square` may have up to eight views, turned and mirrored as pixels before
encoding: turning latents instead is not the same (for a TAESD it costs 5 to 8 dB).
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vesalius.data.pairs import Pairs
from vesalius.io.atomic import atomic_path
from vesalius.models.text import encode_prompts

CACHE_FORMAT = 1


@dataclass(frozen=True)
class Latents:
    """Everything the denoiser's training reads, row for row as in the pairs table."""

    mean: Tensor  # (M, C, h, w) float16
    std: Tensor | None  # the same, or None where the autoencoder is deterministic
    first: Tensor  # (N,) int64, row -> its first view
    views: Tensor  # (N,) int64, row -> how many views
    text_states: Tensor  # (U, T, D) float16
    caption: Tensor  # (N,) int64, row -> text state
    empty_state: Tensor  # (T, D) float16, the empty caption
    scaling_factor: float  # 1 / std of the training rows' latents

    def to(self, device: str) -> "Latents":
        """The same with every tensor on `device`."""
        held = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **held)

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


def weights_hash(*modules: nn.Module) -> str:
    """Hash of every parameter and buffer: two models with the same hash give the same latents."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def cached_latents(
    pairs: Pairs,
    autoencoder: Any,
    tokenizer: Any,
    text_encoder: Any,
    size: int,
    folder: Path,
    views: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Latents:
    """Read the cache in `folder`, or make it first where it is missing or stale.

    `views` (1 to 8) is how many symmetric views a row gets that may have them; held-out rows get one.
    """
    fingerprint = {
        "format": CACHE_FORMAT,
        "models": weights_hash(autoencoder, text_encoder),
        "tokens": tokenizer.model_max_length,
        "size": size,
        "views": views,
        "rows": hashlib.sha256(
            "".join(pairs.column("sha1") + pairs.column("caption")).encode()
        ).hexdigest(),
    }
    stored = folder / "fingerprint.json"
    if not stored.is_file() or json.loads(stored.read_text()) != fingerprint:
        tensors = _encode_images(pairs, autoencoder, size, views, progress)
        tensors |= _encode_captions(pairs.column("caption"), tokenizer, text_encoder)
        with atomic_path(folder) as temporary:
            temporary.mkdir(parents=True)
            save_file(tensors, temporary / "latents.safetensors")
            (temporary / stored.name).write_text(json.dumps(fingerprint, indent=1))
    with safe_open(folder / "latents.safetensors", "pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    train = held["mean"][held["first"][pairs.rows("train")]].float()
    return Latents(
        mean=held["mean"],
        std=held.get("std"),
        first=held["first"],
        views=held["views"],
        text_states=held["text"],
        caption=held["caption"],
        empty_state=held["empty"],
        scaling_factor=1 / train.std().item(),
    )


@torch.no_grad()
def _encode_images(
    pairs: Pairs,
    autoencoder: Any,
    size: int,
    views: int,
    progress: Callable[[int, int], None],
    batch: int = 8,
) -> dict[str, Tensor]:
    device = next(autoencoder.parameters()).device
    several = zip(pairs.column("symmetry"), pairs.column("split"), strict=True)
    count = torch.tensor([views if pair == ("square", "train") else 1 for pair in several])
    jobs = [(row, view) for row, n in enumerate(count.tolist()) for view in range(n)]
    means, stds = [], []
    for start in range(0, len(jobs), batch):
        images = [
            turn(torch.from_numpy(pairs.image(row, size).copy()).permute(2, 0, 1), view)
            for row, view in jobs[start : start + batch]
        ]
        pixels = torch.stack(images).to(device).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16):
            output = autoencoder.encode(pixels.contiguous(memory_format=torch.channels_last))
        if hasattr(output, "latents"):  # AutoencoderTiny has no posterior, only a point
            means.append(output.latents.half().cpu())
        else:
            means.append(output.latent_dist.mean.half().cpu())
            stds.append(output.latent_dist.std.half().cpu())
        progress(start + len(images), len(jobs))
    tensors = {
        "mean": torch.cat(means).contiguous(),
        "first": count.cumsum(0) - count,
        "views": count,
    }
    if stds:
        tensors["std"] = torch.cat(stds).contiguous()
    return tensors


def _encode_captions(
    captions: list[str], tokenizer: Any, text_encoder: Any, batch: int = 64
) -> dict[str, Tensor]:
    distinct = sorted(set(captions))
    index = {caption: i for i, caption in enumerate(distinct)}
    states = [
        encode_prompts(tokenizer, text_encoder, distinct[start : start + batch]).half().cpu()
        for start in range(0, len(distinct), batch)
    ]
    return {
        "text": torch.cat(states),
        "caption": torch.tensor([index[caption] for caption in captions]),
        "empty": encode_prompts(tokenizer, text_encoder, [""])[0].half().cpu(),
    }
