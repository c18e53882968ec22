"""Training a text-conditional latent denoiser on cached latents: what every such method shares.

`Denoising` takes the loss and the validation figure; where the text states come from is a
`Conditioning`: the cache, or a text encoder that is part of what trains. `DenoiserMethod` is the
method from scratch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from diffusers.models.embeddings import TextTimeEmbedding
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from vesalius.config import DenoiserRecipe, Objective, Optimisation
from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.models.noise_process import Process, add_noise, offset_noise
from vesalius.models.text import expand_multi_vector, token_window
from vesalius.train.latents import Latents
from vesalius.train.material import training_flops
from vesalius.train.method import Rows, generator, on_device

VALIDATION_BATCH = 64
# Where a U-Net and a U-ViT begin and end: what comes in and goes out, and what time, size and a
# summary of the caption become. By the usual rule for Muon these keep AdamW.
EDGES = (
    *("conv_in", "conv_out", "time_embedding", "add_embedding", "class_embedding"),
    *("encoder_hid_proj", "patch_embed", "context_embed", "decoder_pred", "final_layer"),
)
CACHE_SHARE = 0.4  # of a GPU's free memory; a larger cache stays on disk


class Conditioning(Protocol):
    """Text states of table rows."""

    def __call__(self, rows: Tensor, dropped: Tensor, draw: torch.Generator | None) -> Tensor:
        """Of `rows` (B,), the empty caption's where `dropped` (B,): (B, T, D) on the device.

        Both lie where the cache does, on the CPU or the device. `draw`, on the device, chooses
        among several captions of a row; without it the choice is always the same.
        """
        ...


class CachedText:
    """Text states from the cache: the text encoder is frozen, and not needed at all."""

    def __init__(self, latents: Latents, device: str) -> None:
        self.latents, self.device = latents, device

    def __call__(self, rows: Tensor, dropped: Tensor, draw: torch.Generator | None) -> Tensor:
        return send(self.latents.text(rows, dropped), self.device)


class EncodedText:
    """Captions tokenised once and encoded anew in each step, for a text encoder that is trained.

    `captions` are those of each table row. They are padded as `models.text.encode_prompts` does.
    """

    def __init__(
        self, tokenizer: Any, text_encoder: Any, captions: list[list[str]], device: str
    ) -> None:
        distinct = sorted({caption for several in captions for caption in several})
        number = {caption: k for k, caption in enumerate(distinct)}
        inputs = tokenizer(
            [expand_multi_vector(tokenizer, caption) for caption in [*distinct, ""]],
            padding="max_length",
            max_length=token_window(tokenizer),
            truncation=True,
            return_tensors="pt",
        )
        self.text_encoder = text_encoder
        self.ids = inputs.input_ids.to(device)  # (U + 1, T), the empty caption last
        masked = getattr(text_encoder.config, "use_attention_mask", None)
        self.mask = inputs.attention_mask.to(device) if masked else None
        self.count = torch.tensor([len(several) for several in captions], device=device)
        self.first = self.count.cumsum(0) - self.count
        # the captions of all rows, one row's after another's
        listed = [number[caption] for several in captions for caption in several]
        self.caption = torch.tensor(listed, device=device)

    def __call__(self, rows: Tensor, dropped: Tensor, draw: torch.Generator | None) -> Tensor:
        device = self.ids.device
        rows, dropped = (part.to(device, non_blocking=True) for part in (rows, dropped))
        count, place = self.count[rows], rows  # without a draw, the row's number chooses
        if draw is not None:
            place = (torch.rand(len(rows), generator=draw, device=device) * count).long()
        chosen = self.caption[self.first[rows] + place % count]
        chosen = torch.where(dropped, len(self.ids) - 1, chosen)
        mask = None if self.mask is None else self.mask[chosen]
        return self.text_encoder(self.ids[chosen], attention_mask=mask).last_hidden_state


@dataclass(frozen=True)
class Stage:
    """A part of a training, with images of one size."""

    size: int  # pixels
    until_images: float  # seen: a step that begins there or later is of another stage
    latents: Latents


class Denoising:
    """Squared error of what a denoiser predicts, on rows of a table.

    `smaller` are stages that come before the one with `latents`, in order; their text states are
    those of `latents`.
    """

    def __init__(
        self,
        latents: Latents,
        rows: Rows,
        process: Process,
        objective: Objective,
        plan: Optimisation,
        device: str,
        text: Conditioning | None = None,
        smaller: Sequence[Stage] = (),
    ) -> None:
        self.device, self.process, self.objective = device, process, objective
        self.place = device if _fits([latents, *(s.latents for s in smaller)], device) else "cpu"
        self.latents = latents.to(self.place)
        first = [replace(s, latents=self._like_the_last(s.latents)) for s in smaller]
        self.stages = [*first, Stage(0, math.inf, self.latents)]
        self.stage = self.stages[0]
        self.text = text or CachedText(self.latents, device)
        self.dtype = getattr(torch, plan.precision)
        self.rows = torch.tensor(rows.train, device=self.place)
        self.importance = rows.importance.to(self.place)
        self.validation = [
            self._fix_validation(stage.latents, rows.held_out, plan) for stage in self.stages
        ]

    def _like_the_last(self, latents: Latents) -> Latents:
        """Smaller latents, scaled as the last stage's are and with its text, which is held once."""
        last = self.latents
        return replace(
            latents,
            text_states=last.text_states,
            caption=last.caption,
            empty_state=last.empty_state,
            scaling_factor=last.scaling_factor,
        ).to(self.place)

    def begin_step(self, seen: int) -> None:
        """Choose the stage of the step that follows `seen` images."""
        self.stage = next(stage for stage in self.stages if seen < stage.until_images)

    def _fix_validation(
        self, latents: Latents, held_out: list[int], plan: Optimisation
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, latents, noise and times, chosen once: the figure moves only when the model does.

        The rows and times are the same at every size.
        """
        draw = generator(plan.seed, "validation")
        count = min(plan.validation_size, len(held_out))
        rows = torch.tensor(held_out)[torch.randperm(len(held_out), generator=draw)[:count]]
        near, draw = self._generators(draw)
        x = latents.sample(rows.to(self.place), near).to(self.device)
        times = self.process.spread(count).to(self.device)
        noise = torch.randn(x.shape, generator=draw, device=self.device)
        return rows.to(self.place), x, noise, times

    def _generators(self, draw: torch.Generator) -> tuple[torch.Generator, torch.Generator]:
        """Where the cache lies, and on the device: one and the same where it lies there."""
        far = on_device(draw, self.device)
        return (far if self.place == self.device else on_device(draw, self.place)), far

    def errors(self, denoiser: Any, x: Tensor, noise: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Mean squared error (B,) of the prediction at times `t` for latents `x` (B, C, h, w)."""
        x_t = add_noise(self.process, x, noise, t).contiguous(memory_format=torch.channels_last)
        target = self.process.target(x, noise, t)
        # a denoiser that is held in bfloat16 may normalise the text before any product rounds it
        text = text.to(self.dtype)
        predicted = denoiser(x_t, self.process.timestep(t), text, return_dict=False)[0]
        return (predicted.float() - target).square().mean((1, 2, 3))

    def loss(self, denoiser: Any, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """The loss of a batch; `rows` (B,) index the training rows."""
        chosen = rows.to(self.place, non_blocking=True)
        rows, (near, draw) = self.rows[chosen], self._generators(draw)
        x = send(self.stage.latents.sample(rows, near), self.device)
        dropped = torch.rand(len(rows), generator=near, device=self.place)
        dropped = dropped < self.objective.caption_dropout
        t = self.process.draw(len(rows), draw)
        noise = torch.randn(x.shape, generator=draw, device=self.device)
        noise = offset_noise(noise, self.objective.offset_noise, draw)
        with self.autocast():
            errors = self.errors(denoiser, x, noise, t, self.text(rows, dropped, draw))
        importance = send(self.importance[chosen], self.device)
        return {"loss": (errors * self.process.weight(t) * importance).mean()}

    @torch.no_grad()
    def validate(self, denoiser: Any) -> dict[str, float]:
        """The plain mean squared error of the fixed rows, noise and times, at the last size.

        While the present size is another, its own follows as `loss_<pixels>`.
        """
        figures = {"loss": self._error(denoiser, *self.validation[-1])}
        if self.stage is not self.stages[-1]:
            fixed = self.validation[self.stages.index(self.stage)]
            figures[f"loss_{self.stage.size}"] = self._error(denoiser, *fixed)
        return figures

    def _error(self, denoiser: Any, rows: Tensor, x: Tensor, noise: Tensor, t: Tensor) -> float:
        kept = torch.zeros(VALIDATION_BATCH, dtype=torch.bool, device=self.place)
        losses = []
        for start in range(0, len(rows), VALIDATION_BATCH):
            part = slice(start, start + VALIDATION_BATCH)
            with self.autocast():
                text = self.text(rows[part], kept[: len(rows[part])], None)
                losses.append(self.errors(denoiser, x[part], noise[part], t[part], text))
        return torch.cat(losses).mean().item()

    def autocast(self) -> torch.autocast:
        """Mixed precision as the recipe says: weights stay as they are, products are rounded."""
        return torch.autocast(
            torch.device(self.device).type, self.dtype, enabled=self.dtype != torch.float32
        )


def send(values: Tensor, device: str) -> Tensor:
    """`values` on `device`; from the CPU to a GPU by way of pinned memory, so that nothing waits.

    A copy from other memory waits for all that the device has still to do.
    """
    if values.device.type == "cpu" and torch.device(device).type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _fits(several: Sequence[Latents], device: str) -> bool:
    """Whether the latents of every size and one set of text states may lie in the device's memory."""
    if torch.device(device).type != "cuda":
        return True
    large = [several[0].text_states]
    large += [
        part for latents in several for part in (latents.mean, latents.std) if part is not None
    ]
    one = torch.zeros(1, dtype=torch.long)
    needed = sum(2 * len(part) * part[one].numel() for part in large)
    return needed < CACHE_SHARE * torch.cuda.mem_get_info(device)[0]


def build_denoiser(recipe: DenoiserRecipe) -> nn.Module:
    """The denoiser that the recipe describes; its weights are drawn from the global generator.

    Raises VesaliusError for arguments that its class does not take.
    """
    if recipe.kind == "UViT":
        from vesalius.models.uvit import UViT as kind
    else:
        kind = UNet2DConditionModel
    try:
        denoiser: Any = kind(**recipe.arguments)
    except (TypeError, ValueError) as error:
        raise VesaliusError(f"denoiser.arguments: {error}") from error
    if isinstance(pooled := getattr(denoiser, "add_embedding", None), TextTimeEmbedding):
        # starts without effect, so that a denoiser that had none is gone on with as it was
        nn.init.zeros_(pooled.norm2.weight)
    return cast(nn.Module, denoiser)


def take_over(denoiser: nn.Module, model: str) -> int:
    """Copy the weights of `model`'s denoiser whose names and shapes fit; return how many numbers.

    Raises VesaliusError when none fits, and for a model that cannot be loaded.
    """
    known = load_generator(model, "cpu", "float32").unet.state_dict()
    own = denoiser.state_dict()
    fitting = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise VesaliusError(f"denoiser.init: no weight of {model}'s denoiser fits this one")
    denoiser.load_state_dict(fitting, strict=False)
    return sum(value.numel() for value in fitting.values())


def save_network(network: Any, folder: Path) -> None:
    """Write a diffusers network and leave it as it was.

    diffusers adds its version to the configuration that it writes, and what was compiled for the
    network would be compiled again at the next step.
    """
    config = network._internal_dict
    network._internal_dict = type(config)(config)
    try:
        network.save_pretrained(folder, safe_serialization=True)
    finally:
        network._internal_dict = config


class DenoiserMethod:
    """A U-Net or U-ViT from random weights, on the states of a frozen text encoder."""

    name = "denoiser"
    few_shapes = True
    edges = EDGES

    def __init__(
        self,
        recipe: DenoiserRecipe,
        process: Process,
        latents: Latents,
        rows: Rows,
        device: str,
        smaller: Sequence[Stage] = (),
    ) -> None:
        plan = recipe.optimisation
        self.settings: dict[str, Any] = {}
        self.row_weights = rows.weights
        self.denoising = Denoising(latents, rows, process, recipe, plan, device, smaller=smaller)
        # Weights are drawn from the recipe's seed, so that the same recipe gives the same model.
        with torch.random.fork_rng():
            torch.manual_seed(plan.seed)
            module = build_denoiser(recipe)
        if recipe.init:
            take_over(module, recipe.init)
        self.module = module.to(memory_format=torch.channels_last).to(device)
        self.flops = [training_flops(module, stage.latents) for stage in self.denoising.stages]

    def before_step(self, seen: int) -> None:
        self.denoising.begin_step(seen)

    @property
    def flops_per_image(self) -> float:
        return self.flops[self.denoising.stages.index(self.denoising.stage)]

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        return self.denoising.loss(self.module, rows, draw)

    def validate(self, module: nn.Module) -> dict[str, float]:
        return self.denoising.validate(module)

    def save(self, module: nn.Module, folder: Path) -> None:
        save_network(module, folder)
