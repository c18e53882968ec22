"""Text to images: prompts and a seed in, images with their provenance out."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor

from vesalius._version import __version__
from vesalius.errors import VesaliusError
from vesalius.models.adapter_files import read_adapter
from vesalius.models.adapters import Applied, apply_adapter, parse_adapter
from vesalius.models.device import format_reason
from vesalius.models.generator import Generator, load_generator
from vesalius.models.text import lost_words
from vesalius.sample.autoencoder import decode
from vesalius.sample.checks import check_multiple, check_numbers, check_prompts, parse_size
from vesalius.sample.draw import Request, draw, in_batches
from vesalius.sample.guidance import Guidance
from vesalius.sample.known import unknown_prompts
from vesalius.sample.prompt import parse_prompt
from vesalius.sample.samplers import make_sampler
from vesalius.sample.settings import DrawSettings
from vesalius.sample.start import Start

# What a model folder without vesalius.json gets: the usual values for Stable Diffusion.
STEPS = 30
GUIDANCE = 7.5

Progress = Callable[[float, int], None]  # images done, fractions of one included; images in all
Watch = Callable[[int, Tensor], None]  # index of the first, and latents (N, C, h, w) after a step


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
        facts: dict[str, Any] = {
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
            facts["guidance_rescale"] = guidance.rescale
        if guidance.interval != (0.0, 1.0):
            facts["guidance_interval"] = list(guidance.interval)
        if request.start:
            facts |= request.start.origin
        if self.image.mode == "I;16":
            facts["bits"] = 16
        size = {"width": self.image.width, "height": self.image.height}
        return facts | size | {"version": __version__}


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
        start: Start | None = None,
        bits: int = 8,
        on_progress: Progress | None = None,
        **settings: Any,
    ) -> Iterator[Sample]:
        """Yield `n` samples of each prompt: all of the first prompt, then of the second, ...

        Image k of the run, counted over all prompts, is drawn from seed + k alone: asking for that
        prompt with that seed gives it again, whatever else was in the batch (but for rounding).

        `settings` are the fields of `DrawSettings`, of which `batch_size` changes speed and memory
        only; `start` is an image to draw from, see `start.read_start`; images of 16 `bits` are grey.
        Raises VesaliusError at once, before the first image, for anything that cannot be made.
        """
        asked = DrawSettings(**settings)
        requests = self.requests(prompts, n, asked, start)
        return self.draw(requests, asked.batch_size, on_progress, bits)

    def requests(
        self,
        prompts: str | Sequence[str],
        n: int,
        settings: DrawSettings,
        start: Start | None = None,
    ) -> list[Request]:
        """The requests for `n` images of each prompt, in the order and with the seeds of `stream`."""
        prompts = check_prompts(prompts)
        check_numbers(n=n, images=n * len(prompts), seed=settings.seed)
        texts = [prompt for prompt in prompts for _ in range(n)]
        return [
            self.request(text, settings.seed + k, settings, start) for k, text in enumerate(texts)
        ]

    def request(
        self,
        prompt: str,
        seed: int = 0,
        settings: DrawSettings | None = None,
        start: Start | None = None,
        size: tuple[int, int] | None = None,
    ) -> Request:
        """All that decides one image, what the settings leave out being the model's own.

        `size`, (width, height), goes before that of the settings.
        Raises VesaliusError for anything that this model cannot make.
        """
        asked, own = settings or DrawSettings(), self.generator.settings
        steps = int(own.get("steps", STEPS) if asked.steps is None else asked.steps)
        scale = float(own.get("guidance", GUIDANCE) if asked.guidance is None else asked.guidance)
        sampler = str(own.get("sampler", "") if asked.sampler is None else asked.sampler)
        native = own.get("size", self.generator.native_size)
        width, height = size or parse_size(native if asked.size is None else asked.size)
        check_numbers(seed=seed, steps=steps, guidance=scale)
        make_sampler(sampler, self.generator.scheduler)
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
            guidance=Guidance(scale, asked.guidance_rescale, asked.guidance_interval),
            size=(width, height),
            negative=asked.negative,
            sampler=sampler,
            start=start,
        )
        _ = request.parts  # a composition that cannot be read is an error now
        return request

    @property
    def usual_batch(self) -> int:
        """Images drawn at once: few on a CPU, where more cost memory and gain nothing."""
        return 4 if self.generator.device.type == "cpu" else 8

    def draw(
        self,
        requests: Sequence[Request],
        batch_size: int | None = None,
        on_progress: Progress | None = None,
        bits: int = 8,
        on_latents: Watch | None = None,
    ) -> Iterator[Sample]:
        """Yield one sample a request, in order. Requests that differ in size or settings may mix."""
        batch_size = batch_size or self.usual_batch
        begun = 0
        for batch in in_batches(requests, batch_size):

            def report(done: int, total: int, first: int = begun, now: int = len(batch)) -> None:
                if on_progress:
                    on_progress(first + now * done / total, len(requests))

            watch = partial(on_latents, begun) if on_latents else None
            latents = draw(self.generator, batch, on_step=report, on_latents=watch)
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

    @property
    def precision(self) -> str:
        """The number format of the denoiser, and why `auto` chooses it, in words."""
        denoiser = str(self.generator.dtype).removeprefix("torch.")
        return f"precision: {denoiser}, {format_reason(self.generator.device, denoiser)}"

    def warnings(self, prompts: str | Sequence[str], negative: str = "") -> list[str]:
        """One sentence for each prompt that is too long, and for each adapter that none names.

        And one for prompts of which a bundled model knows no word.
        """
        prompts = [*([prompts] if isinstance(prompts, str) else prompts), negative]
        prompts = [part.text for prompt in prompts for part in parse_prompt(prompt)]
        tokenizer, chunks = self.generator.tokenizer, self.generator.caption_chunks
        lost = [lost_words(tokenizer, prompt, chunks) for prompt in dict.fromkeys(prompts)]
        strange = () if self.adapters else unknown_prompts(self.generator.name, prompts[:-1])
        unnamed = [a for a in self.adapters if a.token and not any(a.token in p for p in prompts)]
        return [
            f"the prompt is too long for the model, which will not read: {w}" for w in lost if w
        ] + [
            *(f"adapter {a.name} has no effect: write {a.token} in the prompt" for a in unnamed),
            *strange,
        ]


def load(
    model: str = "mini", device: str = "auto", dtype: str = "auto", adapters: Sequence[str] = ()
) -> TextToImage:
    """Load a model ready to generate: a bundled name, a folder in diffusers layout, or a hub id.

    `adapters` are LoRAs and textual inversions, as FILE or FILE:WEIGHT.
    Raises VesaliusError when one cannot be loaded; see `models.generator.load_generator` and
    `models.adapters.load_adapter`.
    """
    # all adapters are read first: a bad one is an error before a large model is loaded
    wanted = [parse_adapter(text) for text in adapters]
    read = [(read_adapter(path), path, weight) for path, weight in wanted]
    generator = load_generator(model, device, dtype)
    return TextToImage(generator, [apply_adapter(generator, *one) for one in read])
