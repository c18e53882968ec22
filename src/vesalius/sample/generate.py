"""Text to images: prompts and a seed in, images with their provenance out."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from vesalius import __version__
from vesalius.models.generator import Generator, load_generator
from vesalius.models.text import encode_prompts, lost_words
from vesalius.sample.checks import check_multiple, check_numbers, check_prompts, parse_size
from vesalius.sample.denoise import decode, denoise

# What a model folder without vesalius.json gets: the usual values for Stable Diffusion.
STEPS = 30
GUIDANCE = 7.5

Progress = Callable[[float, int], None]  # images done, fractions of one included; images in all


@dataclass(frozen=True)
class Sample:
    """One synthetic image and all that it takes to make it again."""

    image: Image.Image
    index: int  # position in the run
    prompt: str
    negative: str
    seed: int
    model: str
    model_hash: str
    sampler: str
    steps: int
    guidance: float

    @property
    def provenance(self) -> dict[str, Any]:
        """What is written into the PNG and the manifest."""
        return {
            "synthetic": True,
            "prompt": self.prompt,
            "negative": self.negative,
            "seed": self.seed,
            "model": self.model,
            "model_hash": self.model_hash,
            "sampler": self.sampler,
            "steps": self.steps,
            "guidance": self.guidance,
            "width": self.image.width,
            "height": self.image.height,
            "version": __version__,
        }


class TextToImage:
    """A generator ready to be asked for images."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def generate(self, prompts: str | Sequence[str], **options: Any) -> list[Sample]:
        """All samples of `stream`, which documents the options, in a list.

        Warns of words beyond the text encoder's window.
        """
        for message in self.warnings(prompts):
            warnings.warn(message, stacklevel=2)
        return list(self.stream(prompts, **options))

    def stream(
        self,
        prompts: str | Sequence[str],
        *,
        n: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        negative: str = "",
        size: str | int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Sample]:
        """Yield `n` samples of each prompt: all of the first prompt, then of the second, ...

        Image k of the run, counted over all prompts, is drawn from seed + k alone: asking for that
        prompt with that seed gives it again, whatever else was in the batch (but for rounding).

        `steps`, `guidance` (classifier-free guidance scale, 1 is none) and `size` (pixels, or
        (width, height)) default to the model's own; `batch_size` changes speed and memory only.
        Raises VesaliusError at once, before the first image, for anything that cannot be made.
        """
        prompts = check_prompts(prompts, negative)
        images = n * len(prompts)
        settings = self.generator.settings
        steps = int(settings.get("steps", STEPS) if steps is None else steps)
        guidance = float(settings.get("guidance", GUIDANCE) if guidance is None else guidance)
        check_numbers(
            n=n, images=images, seed=seed, steps=steps, guidance=guidance, batch_size=batch_size
        )
        own_size = settings.get("size", self.generator.native_size)
        width, height = parse_size(own_size if size is None else size)
        check_multiple((width, height), self.generator.size_multiple)
        # Small on a CPU, where a larger batch costs memory and gains nothing.
        batch_size = batch_size or (4 if self.generator.device.type == "cpu" else 8)
        return self._run(
            prompts, n, seed, steps, guidance, negative, (width, height), batch_size, on_progress
        )

    def _run(
        self,
        prompts: list[str],
        n: int,
        seed: int,
        steps: int,
        guidance: float,
        negative: str,
        size: tuple[int, int],
        batch_size: int,
        on_progress: Progress | None,
    ) -> Iterator[Sample]:
        parts = self.generator
        width, height = size
        channels, factor = parts.vae.config.latent_channels, parts.vae_factor
        images = n * len(prompts)
        empty = encode_prompts(parts.tokenizer, parts.text_encoder, [negative])  # (1, T, D)
        for start in range(0, images, batch_size):
            chosen = range(start, min(start + batch_size, images))
            texts = [prompts[k // n] for k in chosen]
            states = _encode_each_once(parts, texts)  # (N, T, D)

            def report(done: int, total: int, first: int = start, now: int = len(texts)) -> None:
                if on_progress:
                    on_progress(first + now * done / total, images)

            latents = denoise(
                parts.unet,
                parts.scheduler,
                states,
                empty,
                seeds=[seed + k for k in chosen],
                shape=(channels, height // factor, width // factor),
                steps=steps,
                guidance=guidance,
                on_step=report,
            )
            for k, text, pixels in zip(chosen, texts, decode(parts.vae, latents), strict=True):
                yield Sample(
                    image=Image.fromarray(pixels.numpy()),
                    index=k,
                    prompt=text,
                    negative=negative,
                    seed=seed + k,
                    model=parts.name,
                    model_hash=parts.model_hash,
                    sampler=type(parts.scheduler).__name__,
                    steps=steps,
                    guidance=guidance,
                )

    def warnings(self, prompts: str | Sequence[str]) -> list[str]:
        """One sentence for each prompt that the text encoder cannot read to its end."""
        prompts = [prompts] if isinstance(prompts, str) else prompts
        lost = [lost_words(self.generator.tokenizer, prompt) for prompt in dict.fromkeys(prompts)]
        return [
            f"the prompt is too long for the model, which will not read: {w}" for w in lost if w
        ]


def _encode_each_once(parts: Generator, texts: list[str]) -> torch.Tensor:
    distinct = list(dict.fromkeys(texts))
    states = encode_prompts(parts.tokenizer, parts.text_encoder, distinct)
    return states[[distinct.index(text) for text in texts]]


def load(model: str = "mini", device: str = "auto", dtype: str = "auto") -> TextToImage:
    """Load a model ready to generate: a bundled name, a folder in diffusers layout, or a hub id.

    Raises VesaliusError when it cannot be loaded; see `models.generator.load_generator`.
    """
    return TextToImage(load_generator(model, device, dtype))
