"""Requests to latents: a batch of images that differ in prompt and seed, and in nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from vesalius.models.generator import Generator
from vesalius.models.text import encode_prompts
from vesalius.sample.denoise import Known, denoise
from vesalius.sample.guidance import Guidance
from vesalius.sample.prompt import Part, parse_prompt
from vesalius.sample.samplers import make_sampler


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

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The prompts that it is composed of."""
        return parse_prompt(self.prompt)

    @property
    def shape(self) -> tuple[Any, ...]:
        """What images of one batch share."""
        return (self.sampler, self.steps, self.guidance, self.size, len(self.parts))


def in_batches(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """`requests` in order, in lists of up to `size` that can be drawn at once."""
    for _, alike in groupby(requests, key=lambda request: request.shape):
        several = list(alike)
        yield from (several[k : k + size] for k in range(0, len(several), size))


def draw(
    generator: Generator,
    requests: Sequence[Request],
    *,
    known: Known | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Latents (N, C, h, w) of requests of one `shape`; each depends on its own request only.

    But for rounding: a batch of another size may be summed in another order.
    """
    first = requests[0]
    (width, height), factor = first.size, generator.vae_factor
    texts = [part.text for request in requests for part in request.parts]
    states = encode_each_once(generator, [*texts, *(request.negative for request in requests)])
    states, negative = states[: len(texts)], states[len(texts) :]
    weights = None
    if len(first.parts) > 1:
        weights = torch.tensor([[part.weight for part in r.parts] for r in requests])
    return denoise(
        generator.unet,
        make_sampler(first.sampler, generator.scheduler),
        states.unflatten(0, (len(requests), len(first.parts))),  # (N, K, T, D)
        negative,
        seeds=[request.seed for request in requests],
        shape=(generator.vae.config.latent_channels, height // factor, width // factor),
        steps=first.steps,
        guidance=first.guidance,
        weights=weights,
        known=known,
        on_step=on_step,
    )


def encode_each_once(generator: Generator, texts: list[str]) -> Tensor:
    """Text states (N, T, D) of N prompts, equal ones encoded once."""
    distinct = list(dict.fromkeys(texts))
    chunks = generator.caption_chunks
    states = encode_prompts(generator.tokenizer, generator.text_encoder, distinct, chunks)
    return states[[distinct.index(text) for text in texts]]
