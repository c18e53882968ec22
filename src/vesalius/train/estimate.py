"""What a training would take: counted on outlines of the networks, timed by a few steps."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vesalius.config import (
    FineTuneRecipe,
    FullRecipe,
    LoraRecipe,
    Optimisation,
    TextualInversionRecipe,
)
from vesalius.core.labels import listed
from vesalius.core.quiet import quiet
from vesalius.core.words import about_on, plural
from vesalius.errors import VesaliusError
from vesalius.models.adapters import add_lora
from vesalius.models.cost import count_denoiser
from vesalius.models.device import pick_precision
from vesalius.models.generator import Generator, load_skeleton
from vesalius.pairs.table import Pairs

QUICK_MACS = 1e11  # of a step: what a CPU's core does in a few seconds
# Of one image's step that is timed where more cannot be: Stable Diffusion's at 256 px. By smaller
# sides alone, at which a core is slower for the same products, it came out 1.6 times too long.
ONE_IMAGE_MACS = 3e11
TIMED_SECONDS = 3.0  # after which no third step is taken


@dataclass(frozen=True)
class Length:
    """How long a stage of a training is."""

    seen_images: int
    batch: int
    epochs: float | None  # None: another one for each label
    labels: int | None = None  # of which each is trained so long, one after the other
    sizes: tuple[tuple[int, int], ...] = ()  # pixels, and the images seen until the next size

    @classmethod
    def of(cls, stage: Optimisation, rows: int, labels: int | None = None) -> "Length":
        """Of a stage on so many rows."""
        epochs = None if labels is not None else stage.seen_images / max(1, rows)
        return cls(stage.seen_images, stage.batch, epochs, labels)

    def __str__(self) -> str:
        text = (
            f"{plural(self.seen_images, 'image')} seen in {plural(-(-self.seen_images // self.batch), 'step')} of "
            f"{self.batch}"
        )
        if self.epochs is not None:
            text += f", {self.epochs:.1f} epochs"
        if self.labels is not None:
            text += f", for each of {plural(self.labels, 'label')}"
        return text + "".join(f"; until {until:,} at {size} pixels" for size, until in self.sizes)


@dataclass(frozen=True)
class Estimate:
    """What a training would do; None is what does not apply to it or is not known."""

    rows: int  # to train on
    held_out: int
    captions: int
    trains: str
    lengths: Mapping[str, Length]  # of each stage
    base: str | None = None
    frozen: str | None = None
    cache_bytes: int | None = None  # on disk
    memory_bytes: float | None = None  # of a device, uncompiled, without gradient checkpointing
    optimiser_bytes: int | None = None  # weights, gradients, moments and average
    time: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # of which each is trained: its rows
    results: Sequence[str] = ()  # folders in the run that come out
    result_bytes: float | None = None  # of each
    checkpoint_bytes: float | None = None  # of all that are kept of each training
    warning: str | None = None  # of test images that the base has seen

    def lines(self, out: Path | None = None) -> dict[str, str]:
        """As the command line shows it for a run in `out`: the name of a fact and its words."""
        captions = plural(self.captions, "caption")
        counts = f"{self.rows:,} to train on, {self.held_out:,} held out, {captions}"
        facts = {"pairs": counts, "base": self.base, "trains": self.trains, "frozen": self.frozen}
        facts |= {name: str(length) for name, length in self.lengths.items()}
        facts |= {f"- {label}": text for label, text in self.labels.items()}
        if self.cache_bytes is not None:
            facts["cache"] = f"{_size(self.cache_bytes)} of latents and text states on disk"
        if self.memory_bytes is not None:
            memory = f"about {_size(self.memory_bytes)}"
            facts["memory"] = f"{memory}, uncompiled, without gradient checkpointing"
        if self.optimiser_bytes is not None:
            memory = _size(self.optimiser_bytes)
            facts["optimiser"] = f"{memory} for weights, gradients, moments and average"
        facts |= {"time": self.time, "writes": self._written(out), "warning": self.warning}
        return {name: text for name, text in facts.items() if text is not None}

    def _written(self, out: Path | None) -> str | None:
        """Where the results will be, and how large they are."""
        if not self.results:
            return None
        text = listed([str(out / name if out else Path(name)) for name in self.results], 3)
        if self.result_bytes is not None:
            text += f", {_size(self.result_bytes)}{' each' * (len(self.results) > 1)}"
        if self.checkpoint_bytes is not None:
            text += f"; checkpoints of up to {_size(self.checkpoint_bytes)}"
        return f"{text}; this dry run has written nothing"

    def text(self, out: Path | None = None) -> str:
        """`lines`, one below the other."""
        return "\n".join(f"{name + ':':<14} {value}" for name, value in self.lines(out).items())

    def __repr__(self) -> str:
        return self.text()


def _size(count: float) -> str:
    """Bytes in words: `1.2 GB`, `13 MB`, `4.2 MB`, `25 kB`; 0 is `0 kB`, and a few are `1 kB`."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    if count >= 1e6:
        return f"{count / 1e6:,.{int(count < 1e7)}f} MB"
    return f"{math.ceil(count / 1e3)} kB"


def _count(parameters: int) -> str:
    """As in `16.5 M`, `0.40 M`, `1,536`."""
    return f"{parameters / 1e6:,.2f} M" if parameters >= 1e4 else f"{parameters:,}"


def _free_bytes() -> float:
    """Memory of this machine that is free; without end where it is not known."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def unknown_until(model: str) -> str:
    """What an estimate says in the place of what `model`, which is not here, would tell."""
    return f"unknown until the base model is on this machine: hf download {model}"


def count_pairs(pairs: Pairs, rows: int) -> dict[str, Any]:
    """The counts of a table of which so many rows are trained on, as `Estimate` takes them."""
    captions = len(set(pairs.column("caption")) - {"", None})
    return {"rows": rows, "held_out": len(pairs.rows("val")), "captions": captions}


@dataclass(frozen=True)
class Needs:
    """What a fine-tuning takes of a machine; nothing of the model is loaded but its outline."""

    trains: str  # what, in words
    parameters: int  # that train
    base_parameters: int  # of the denoiser
    rest_bytes: float  # weights, gradients, optimiser state
    image_bytes: int  # what a backward pass keeps of each image
    latent_values: int  # of one image
    text_values: int  # of one caption
    step_macs: float  # products of a training step, for one image
    steps: "TimedSteps"

    @property
    def memory_bytes(self) -> float:
        """Of a step."""
        return self.rest_bytes + self.steps.images * self.image_bytes

    @property
    def memory(self) -> str:
        """As in `about 3.2 GB`."""
        return f"about {_size(self.memory_bytes)}"

    def time(self, device: str, runs: int = 1) -> str:
        """How long so many runs take, in words."""
        return self.steps.say(device, runs)


def needs_of(recipe: FineTuneRecipe, folder: Path) -> Needs:
    """What `recipe` takes with the base model in `folder`."""
    return needs_with(recipe, load_skeleton(folder))


def needs_with(recipe: FineTuneRecipe, base: Generator) -> Needs:
    """What `recipe` takes with a base model on the meta device, whose denoiser it changes."""
    stage, unet, tokens = recipe.optimisation, base.unet, base.tokenizer.model_max_length
    frozen = sum(p.numel() for p in unet.parameters())
    what, trained = trained_part(recipe, unet, base.text_encoder)
    side = recipe.size // base.vae_factor
    with quiet():
        unet.to(torch.bfloat16)
    macs, kept = count_denoiser(unet, (side, side), tokens)
    bytes_each = 16 + 4 * len(stage.ema_half_life_images)  # weight, gradient, two moments, averages
    return Needs(
        trains=f"{what}, {_count(trained)} parameters",
        parameters=trained,
        base_parameters=frozen,
        rest_bytes=trained * bytes_each + (0 if isinstance(recipe, FullRecipe) else 2 * frozen),
        image_bytes=kept,
        latent_values=unet.config.in_channels * side**2,
        text_values=tokens * int(unet.config.cross_attention_dim),
        step_macs=3 * macs.products,
        steps=TimedSteps(unet, tokens, stage, [(side, stage.seen_images)]),
    )


def trains_text(recipe: FineTuneRecipe) -> bool:
    """Whether captions must be encoded in each step."""
    if isinstance(recipe, (FullRecipe, LoraRecipe)):
        return recipe.train.text_encoder
    return True


def trained_part(recipe: FineTuneRecipe, unet: Any, encoder: Any) -> tuple[str, int]:
    """What is trained, in words, and how many parameters that is; LoRA's layers are put in.

    Raises VesaliusError for layers that no part has.
    """
    if isinstance(recipe, TextualInversionRecipe):
        unet.requires_grad_(False)
        count = recipe.embedding.vectors
        return f"{count} vectors", count * encoder.get_input_embeddings().weight.shape[1]
    text = encoder if trains_text(recipe) else None
    parts = "U-ViT" if type(unet).__name__ == "UViT" else "U-Net"
    parts += " and text encoder" if text is not None else ""
    if isinstance(recipe, LoraRecipe):
        settings = recipe.lora
        weights = add_lora(unet, text, settings.rank, settings.alpha, settings.targets)
        return f"LoRA of rank {settings.rank} on {parts}", sum(p.numel() for p in weights)
    networks = [unet] if text is None else [unet, text]
    return parts, sum(p.numel() for network in networks for p in network.parameters())


@dataclass
class TimedSteps:
    """Times a few steps of `unet`, which is on the meta device and gets random weights."""

    unet: Any
    tokens: int
    stage: Optimisation
    parts: Sequence[tuple[int, int]]  # of a run: the latents' side, and how many images are seen
    images: int = field(init=False)  # of a forward pass

    def __post_init__(self) -> None:
        self.images = self.stage.micro or self.stage.batch

    def say(self, device: str, runs: int = 1) -> str:
        """How long so many runs take on `device`, in words."""
        try:
            each, how = self.seconds(device)
        except VesaliusError as error:
            return f"unknown: {error}"
        seconds = runs * sum(each[side] * seen for side, seen in self.parts)
        return f"{about_on(seconds, device)}, {how}"

    def seconds(self, device: str) -> tuple[dict[int, float], str]:
        """What an image of each part takes on `device`, by its side, and how this was found.

        Raises VesaliusError with the reason where it cannot be found.
        """
        unet, images = self.unet.float(), self.images
        macs = {side: count_denoiser(unet, (side, side), self.tokens)[0] for side, _ in self.parts}
        largest = max(macs)
        how = "without encoding and validation"
        timed = [side for side, _ in self.parts]
        if torch.device(device).type == "cpu":
            if 3 * images * macs[largest].products > QUICK_MACS:
                how = f"by its products: a step takes too long to be timed; {how}"
                quick, images = self._quick_side(largest), 1
                timed = [quick, *[quick // 2] * (quick % 16 == 0)]
            if 8 * sum(weight.numel() for weight in unet.parameters()) > _free_bytes():
                raise VesaliusError(f"the networks do not fit the memory of this {device} twice")
        try:
            self.unet = unet.to_empty(device=device)
            with torch.no_grad():
                for weight in self.unet.parameters():
                    weight.normal_(std=0.02)
            each = {side: self._seconds(side, images, device) / images for side in timed}
        except torch.OutOfMemoryError as error:
            raise VesaliusError(
                f"{images} images at once do not fit the memory of {device}: set micro"
            ) from error
        finally:
            self.unet = self.unet.to("meta")
        if images != self.images or timed[0] not in macs:
            step, product = self._line(each)
            each = {side: step / self.images + product * macs[side].products for side in macs}
        return each, how

    def _line(self, timed: dict[int, float]) -> tuple[float, float]:
        """Seconds of a step, such as to read its weights, and of a product, by one image at some sides."""
        points = sorted(
            (count_denoiser(self.unet, (side, side), self.tokens)[0].products, seconds)
            for side, seconds in timed.items()
        )
        (few, quickest), (most, slowest) = points[0], points[-1]
        product = (slowest - quickest) / (most - few) if slowest > quickest else slowest / most
        return max(0.0, slowest - product * most), product

    def _quick_side(self, side: int) -> int:
        """The largest half, quarter, ... of a latents' side at which one image is quick enough."""
        macs = count_denoiser(self.unet, (side, side), self.tokens)[0].products
        if 3 * macs <= ONE_IMAGE_MACS or side % 16:
            return side
        return self._quick_side(side // 2)

    def _seconds(self, side: int, images: int, device: str) -> float:
        """Seconds of one forward and backward pass, the best of two, if quick, after a first one."""
        config, kind = self.unet.config, torch.device(device).type
        latents = torch.zeros(images, config.in_channels, side, side, device=device)
        times = torch.full((images,), 500.0, device=device)
        text = torch.zeros(images, self.tokens, int(config.cross_attention_dim), device=device)
        if not any(weight.requires_grad for weight in self.unet.parameters()):
            text.requires_grad_()  # textual inversion: the gradient goes through to the text
        name = self.stage.precision
        dtype = getattr(torch, pick_precision(torch.device(device)) if name == "auto" else name)
        best, began = float("inf"), time.monotonic()
        for step in range(3):
            if step == 2 and time.monotonic() - began > TIMED_SECONDS:
                break
            started = time.monotonic()
            with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
                output = self.unet(latents, times, text, return_dict=False)[0]
            output.float().square().mean().backward()
            if kind == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.monotonic() - started) if step else best
        return best
