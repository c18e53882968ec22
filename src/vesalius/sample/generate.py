"""Text to images: prompts and a seed in, images with their provenance out."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from vesalius._version import __version__
from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import read_adapter
from vesalius.models.adapters import Applied, apply_adapter, parse_adapter
from vesalius.models.generator import Generator, load_generator
from vesalius.models.text import lost_words
from vesalius.sample.checks import (
    check_guidance,
    check_multiple,
    check_numbers,
    check_prompts,
    parse_size,
)
from vesalius.sample.denoise import decode
from vesalius.sample.draw import Request, draw, in_batches
from vesalius.sample.guidance import Guidance
from vesalius.sample.prompt import parse_prompt
from vesalius.sample.samplers import make_sampler
from vesalius.sample.start import Start

# What a model folder without vesalius.json gets: the usual values for Stable Diffusion.
STEPS = 30
GUIDANCE = 7.5

Progress = Callable[[float, int], None]  # images done, fractions of one included; images in all


@dataclass(frozen=True)
class Sample:
    """One synthetic image and all that it takes to make it again."""

    image: Image.Image  # RGB, or of 16 bits grey (I;16)
    index: int  # position in the run
    request: Request
    model: str
    model_hash: str
    sampler: str  # its name, or the class of the model's own scheduler
    adapters: str = ""  # name, hash and weight of each

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return self.request.prompt

    @property
    def seed(self) -> int:
        """What its noise was drawn from."""
        return self.request.seed

    @property
    def provenance(self) -> dict[str, Any]:
        """What is written into the image file and the manifest."""
        request, guidance = self.request, self.request.guidance
        told: dict[str, Any] = {
            "synthetic": True,
            "prompt": request.prompt,
            "negative": request.negative,
            "seed": request.seed,
            "model": self.model,
            "model_hash": self.model_hash,
            "adapters": self.adapters,
            "sampler": self.sampler,
            "steps": request.steps,
            "guidance": guidance.scale,
        }
        if guidance.rescale:
            told["guidance_rescale"] = guidance.rescale
        if guidance.interval != (0.0, 1.0):
            told["guidance_interval"] = list(guidance.interval)
        if request.start:
            told |= request.start.origin
        if self.image.mode == "I;16":
            told["bits"] = 16
        size = {"width": self.image.width, "height": self.image.height}
        return told | size | {"version": __version__}


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
        bits: int = 8,
        batch_size: int | None = None,
        on_progress: Progress | None = None,
        **settings: Any,
    ) -> Iterator[Sample]:
        """Yield `n` samples of each prompt: all of the first prompt, then of the second, ...

        Image k of the run, counted over all prompts, is drawn from seed + k alone: asking for that
        prompt with that seed gives it again, whatever else was in the batch (but for rounding).

        `settings` are those of `request`; images of 16 `bits` are grey; `batch_size` changes speed
        and memory only.
        Raises VesaliusError at once, before the first image, for anything that cannot be made.
        """
        prompts = check_prompts(prompts, settings.get("negative", ""))
        check_numbers(n=n, images=n * len(prompts), seed=seed, batch_size=batch_size)
        texts = [prompt for prompt in prompts for _ in range(n)]
        requests = [self.request(text, seed + k, **settings) for k, text in enumerate(texts)]
        return self.draw(requests, batch_size, on_progress, bits)

    def request(
        self,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        sampler: str | None = None,
        negative: str = "",
        size: str | int | tuple[int, int] | None = None,
        start: Start | None = None,
    ) -> Request:
        """All that decides one image, what is not given being the model's own.

        `guidance` is the classifier-free guidance scale, 1 is none; see `guidance.Guidance` for its
        rescaling and interval. `sampler` is a name of `samplers.NAMES`; `size` is in pixels, or
        (width, height). `start` is an image to draw from: see `start.read_start`.
        Raises VesaliusError for anything that this model cannot make.
        """
        own = self.generator.settings
        steps = int(own.get("steps", STEPS) if steps is None else steps)
        scale = float(own.get("guidance", GUIDANCE) if guidance is None else guidance)
        sampler = str(own.get("sampler", "") if sampler is None else sampler)
        check_numbers(seed=seed, steps=steps, guidance=scale)
        check_guidance(guidance_rescale, guidance_interval)
        make_sampler(sampler, self.generator.scheduler)
        width, height = parse_size(
            own.get("size", self.generator.native_size) if size is None else size
        )
        check_multiple((width, height), self.generator.size_multiple)
        if start and start.mask is not None and start.mask.shape != (height, width):
            raise VesaliusError(
                f"the mask is {start.mask.shape[1]}x{start.mask.shape[0]} and the image to draw "
                f"{width}x{height}: make them one size"
            )
        request = Request(
            prompt=prompt,
            seed=seed,
            steps=steps,
            guidance=Guidance(scale, guidance_rescale, guidance_interval),
            size=(width, height),
            negative=negative,
            sampler=sampler,
            start=start,
        )
        _ = request.parts  # a composition that cannot be read is told now
        return request

    def draw(
        self,
        requests: Sequence[Request],
        batch_size: int | None = None,
        on_progress: Progress | None = None,
        bits: int = 8,
    ) -> Iterator[Sample]:
        """Yield one sample a request, in order. Requests that differ in size or settings may mix."""
        # Small on a CPU, where a larger batch costs memory and gains nothing.
        batch_size = batch_size or (4 if self.generator.device.type == "cpu" else 8)
        begun = 0
        for batch in in_batches(requests, batch_size):

            def report(done: int, total: int, first: int = begun, now: int = len(batch)) -> None:
                if on_progress:
                    on_progress(first + now * done / total, len(requests))

            latents = draw(self.generator, batch, on_step=report)
            pixels = decode(self.generator.vae, latents, bits)
            for k, (request, image) in enumerate(zip(batch, pixels, strict=True), start=begun):
                yield self.sample(k, request, Image.fromarray(image.numpy()))
            begun += len(batch)

    def sample(self, index: int, request: Request, image: Image.Image) -> Sample:
        """`image` with all that it took to make it."""
        parts = self.generator
        return Sample(
            image=image,
            index=index,
            request=request,
            model=parts.name,
            model_hash=parts.model_hash,
            sampler=request.sampler or type(parts.scheduler).__name__,
            adapters=" + ".join(adapter.provenance for adapter in self.adapters),
        )

    def warnings(self, prompts: str | Sequence[str], negative: str = "") -> list[str]:
        """One sentence for each prompt that is too long, and for each adapter that none names."""
        prompts = [*([prompts] if isinstance(prompts, str) else prompts), negative]
        prompts = [part.text for prompt in prompts for part in parse_prompt(prompt)]
        tokenizer, chunks = self.generator.tokenizer, self.generator.caption_chunks
        lost = [lost_words(tokenizer, prompt, chunks) for prompt in dict.fromkeys(prompts)]
        unnamed = [a for a in self.adapters if a.token and not any(a.token in p for p in prompts)]
        return [
            f"the prompt is too long for the model, which will not read: {w}" for w in lost if w
        ] + [f"adapter {a.name} has no effect: write {a.token} in the prompt" for a in unnamed]


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
