"""Text to images: prompts and a seed in, images with their provenance out."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from vesalius import __version__
from vesalius.models.adapter_files import read_adapter
from vesalius.models.adapters import Applied, apply_adapter, parse_adapter
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
    adapters: str = ""  # name, hash and weight of each

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
            "adapters": self.adapters,
            "sampler": self.sampler,
            "steps": self.steps,
            "guidance": self.guidance,
            "width": self.image.width,
            "height": self.image.height,
            "version": __version__,
        }


class TextToImage:
    """A generator ready to be asked for images, and the adapters that it has taken in."""

    def __init__(self, generator: Generator, adapters: Sequence[Applied] = ()) -> None:
        self.generator = generator
        self.adapters = tuple(adapters)

    def generate(self, prompts: str | Sequence[str], **options: Any) -> list[Sample]:
        """All samples of `stream`, which documents the options, in a list.

        Warns of words beyond the text encoder's window.
        """
        for message in self.warnings(prompts, options.get("negative", "")):
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
        empty = _encode_each_once(parts, [negative])  # (1, T, D)
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
                    adapters=" + ".join(adapter.provenance for adapter in self.adapters),
                )

    def warnings(self, prompts: str | Sequence[str], negative: str = "") -> list[str]:
        """One sentence for each prompt that is too long, and for each adapter that none names."""
        prompts = [*([prompts] if isinstance(prompts, str) else prompts), negative]
        tokenizer, chunks = self.generator.tokenizer, self.generator.caption_chunks
        lost = [lost_words(tokenizer, prompt, chunks) for prompt in dict.fromkeys(prompts)]
        unnamed = [a for a in self.adapters if a.token and not any(a.token in p for p in prompts)]
        return [
            f"the prompt is too long for the model, which will not read: {w}" for w in lost if w
        ] + [f"adapter {a.name} has no effect: write {a.token} in the prompt" for a in unnamed]


def _encode_each_once(parts: Generator, texts: list[str]) -> torch.Tensor:
    distinct = list(dict.fromkeys(texts))
    chunks = parts.caption_chunks
    states = encode_prompts(parts.tokenizer, parts.text_encoder, distinct, chunks)
    return states[[distinct.index(text) for text in texts]]


def load(
    model: str = "mini", device: str = "auto", dtype: str = "auto", adapters: Sequence[str] = ()
) -> TextToImage:
    """Load a model ready to generate: a bundled name, a folder in diffusers layout, or a hub id.

    `adapters` are LoRAs and textual inversions, as FILE or FILE:WEIGHT.
    Raises VesaliusError when one cannot be loaded; see `models.generator.load_generator` and
    `models.adapters.load_adapter`.
    """
    # all adapters are read first: a bad one is told before a large model is loaded
    wanted = [parse_adapter(text) for text in adapters]
    read = [(read_adapter(path), path, weight) for path, weight in wanted]
    generator = load_generator(model, device, dtype)
    return TextToImage(generator, [apply_adapter(generator, *one) for one in read])
