"""Requests to latents: a batch of images that differ in prompt and seed, and in nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vesalius.models.generator import Generator
from vesalius.models.text import encode_prompts
from vesalius.sample.autoencoder import encode
from vesalius.sample.denoise import OnLatents, OnStep, denoise, make_batch
from vesalius.sample.edit import Known, edit
from vesalius.sample.guidance import Guidance, Text
from vesalius.sample.prompt import Part, parse_prompt
from vesalius.sample.samplers import make_sampler
from vesalius.sample.start import Start


@dataclass(frozen=True)
class Request:
    """All that decides an image besides the model."""

    prompt: str  # may be composed: `A AND B:0.5`
    seed: int
    steps: int
    guidance: Guidance
    size: tuple[int, int]  # width and height, pixels
    negative: str = ""
    sampler: str = ""  # empty: the model's own
    start: Start | None = None  # none: noise alone

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The prompts that it is composed of."""
        return parse_prompt(self.prompt)

    @property
    def shape(self) -> tuple[Any, ...]:
        """What images of one batch share."""
        start = self.start and (self.start.strength, self.start.mask is None)
        return (self.sampler, self.steps, self.guidance, self.size, len(self.parts), start)


def in_batches(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """`requests` in order, in lists of up to `size` that can be drawn at once."""
    for _, alike in groupby(requests, key=lambda request: request.shape):
        several = list(alike)
        yield from (several[k : k + size] for k in range(0, len(several), size))


def draw(
    generator: Generator,
    requests: Sequence[Request],
    *,
    on_step: OnStep | None = None,
    on_latents: OnLatents | None = None,
) -> Tensor:
    """Latents (N, C, h, w) of requests of one `shape`; each depends on its own request only.

    But for rounding: a batch of another size may be summed in another order.
    """
    first, size, parts = requests[0], len(requests), len(requests[0].parts)
    (width, height), factor = first.size, generator.vae_factor
    texts = [part.text for request in requests for part in request.parts]
    states = encode_each_once(generator, [*texts, *(request.negative for request in requests)])
    weights = [[part.weight for part in request.parts] for request in requests]
    text = Text(
        states[: len(texts)].unflatten(0, (size, parts)),  # (N, K, T, D)
        states[len(texts) :],
        torch.tensor(weights) if parts > 1 else None,
    )
    ready = make_batch(
        generator.unet,
        make_sampler(first.sampler, generator.scheduler),
        text,
        first.guidance,
        steps=first.steps,
        seeds=[request.seed for request in requests],
        shape=(generator.vae.config.latent_channels, height // factor, width // factor),
    )
    known = known_latents(generator, requests)
    if known is None:
        return denoise(ready, on_step, on_latents)
    return edit(ready, known, on_step, on_latents)


def known_latents(generator: Generator, requests: Sequence[Request]) -> Known | None:
    """What requests of one `shape` start from; an image that several share is encoded once."""
    first, starts = requests[0], [request.start for request in requests if request.start]
    if first.start is None:
        return None
    distinct = list(dict.fromkeys(starts))
    pixels = np.stack([start.fitted(first.size) for start in distinct])  # (D, H, W, 3)
    latents = encode(generator.vae, torch.from_numpy(pixels))
    latents = latents[[distinct.index(start) for start in starts]]
    masks = [start.mask for start in starts if start.mask is not None]
    cells = covered(np.stack(masks), generator.vae_factor)[:, None] if masks else None
    return Known(latents, first.start.strength, cells)


def covered(masks: np.ndarray, factor: int) -> Tensor:
    """Masks, bool (N, H, W), as latent cells (N, h, w): 1 where any pixel of a cell is masked.

    What is around a small lesion can then change with it; the pixels outside are put back later.
    """
    count, height, width = masks.shape
    blocks = masks.reshape(count, height // factor, factor, width // factor, factor)
    return torch.from_numpy(blocks.any(axis=(2, 4)).astype(np.float32))


def encode_each_once(generator: Generator, texts: list[str]) -> Tensor:
    """Text states (N, T, D) of N prompts, equal ones encoded once."""
    distinct = list(dict.fromkeys(texts))
    chunks = generator.caption_chunks
    states = encode_prompts(generator.tokenizer, generator.text_encoder, distinct, chunks)
    return states[[distinct.index(text) for text in texts]]
