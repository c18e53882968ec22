"""The loss of a text-conditional latent denoiser on cached latents, for every method that trains one.

    x_t = a(t) x_0 + s(t) e,    loss = mean w(t) |denoiser(x_t, t, text) - target(x_0, e, t)|^2

a, s, w, the target and how t is drawn are the model's own (`models.noise_process`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.config import Objective, Optimisation
from vesalius.models.generator import Generator
from vesalius.models.noise_process import Process, add_noise, offset_noise
from vesalius.train.conditioning import CachedText, Conditioning, send
from vesalius.train.draws import generator, on_device
from vesalius.train.latents import Latents
from vesalius.train.method import Method
from vesalius.train.modes import mixed_precision
from vesalius.train.networks import training_flops
from vesalius.train.rows import Rows
from vesalius.train.session import Sampler

VALIDATION_BATCH = 64
CACHE_SHARE = 0.4  # of a GPU's free memory; a larger cache stays on disk


@dataclass(frozen=True)
class Stage:
    """A part of a training, with images of one size."""

    size: int  # pixels
    until_images: float  # seen: a step that begins there or later is of another stage
    latents: Latents


@dataclass(frozen=True)
class Data:
    """What a denoiser is trained on, and the noise that is added to it.

    `smaller` are stages that come before the one with `latents`, in order; their text states are
    those of `latents`.
    """

    latents: Latents
    rows: Rows
    process: Process
    smaller: Sequence[Stage] = field(default=())


class DenoisingMethod(Method):
    """Squared error of what a denoiser predicts, on rows of a table.

    `module` is the denoiser, or a ModuleDict in which it is called `unet`.
    """

    frozen = False  # whether the denoiser's own weights stay as they are

    def __init__(
        self,
        module: nn.Module,
        data: Data,
        objective: Objective,
        plan: Optimisation,
        device: str,
        text: Conditioning | None = None,
    ) -> None:
        self.module, self.device = module, device
        self.process, self.objective = data.process, objective
        fits = _fits([data.latents, *(s.latents for s in data.smaller)], device)
        self.place = device if fits else "cpu"
        self.latents = data.latents.to(self.place)
        first = [replace(s, latents=self._like_the_last(s.latents)) for s in data.smaller]
        self.stages = [*first, Stage(0, math.inf, self.latents)]
        self.stage = self.stages[0]
        self.text = text or CachedText(self.latents, device)
        self.dtype = getattr(torch, plan.precision)
        self.rows = torch.tensor(data.rows.train, device=self.place)
        self.row_weights = data.rows.weights
        self.importance = data.rows.importance.to(self.place)
        self.validation = [
            self._fix_validation(stage.latents, data.rows, plan) for stage in self.stages
        ]
        denoiser = denoiser_of(module)
        self.flops = [training_flops(denoiser, s.latents, frozen=self.frozen) for s in self.stages]

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

    def before_step(self, seen: int) -> None:
        self.stage = next(stage for stage in self.stages if seen < stage.until_images)

    def _fix_validation(
        self, latents: Latents, chosen: Rows, plan: Optimisation
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, latents, noise and times, chosen once: the figure moves only when the model does.

        The rows and times are the same at every size.
        """
        draw = generator(plan.seed, "validation")
        rows = torch.tensor(chosen.validated(plan, draw))
        near, draw = self._generators(draw)
        x = latents.sample(rows.to(self.place), near).to(self.device)
        times = self.process.spread(len(rows)).to(self.device)
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

    def flops_per_image(self) -> float:
        return self.flops[self.stages.index(self.stage)]

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        chosen = rows.to(self.place, non_blocking=True)
        rows, (near, draw) = self.rows[chosen], self._generators(draw)
        x = send(self.stage.latents.sample(rows, near), self.device)
        dropped = torch.rand(len(rows), generator=near, device=self.place)
        dropped = dropped < self.objective.caption_dropout
        t = self.process.draw(len(rows), draw)
        noise = torch.randn(x.shape, generator=draw, device=self.device)
        noise = offset_noise(noise, self.objective.offset_noise, draw)
        with self.autocast():
            text = self.text(rows, dropped, draw)
            errors = self.errors(denoiser_of(self.module), x, noise, t, text)
        importance = send(self.importance[chosen], self.device)
        return {"loss": (errors * self.process.weight(t) * importance).mean()}

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """The plain mean squared error of the fixed rows, noise and times, at the last size.

        While the present size is another, its own follows as `loss_<pixels>`.
        """
        denoiser = denoiser_of(module)
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
        """Mixed precision as the recipe says."""
        return mixed_precision(self.device, self.dtype)

    def draw_samples_with(self, sampler: Sampler, parts: Generator, prompts: list[str]) -> None:
        """Let `sampler` draw the samples, with the networks of `parts`, of which this trains some."""

        def sample(module: nn.Module) -> list[Any]:
            with self.autocast():
                return sampler(parts, prompts)

        self.sample = sample


def denoiser_of(module: nn.Module) -> Any:
    """The denoiser in a method's module."""
    return module["unet"] if isinstance(module, nn.ModuleDict) else module


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
