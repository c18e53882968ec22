"""Training a text-conditional latent denoiser from scratch on cached latents."""

from pathlib import Path
from typing import cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from vesalius.config import DenoiserRecipe
from vesalius.data.latents import Latents
from vesalius.data.pairs import Pairs
from vesalius.train.methods import generator, on_device
from vesalius.train.objective import TIMESTEPS, draw_times, noised


class DenoiserMethod:
    """Predict the flow from noised latents and the caption's text states."""

    name = "denoiser"

    def __init__(self, recipe: DenoiserRecipe, latents: Latents, pairs: Pairs, device: str) -> None:
        self.latents, self.device = latents.to(device), device
        self.caption_dropout, self.logit_std = recipe.caption_dropout, recipe.time_logit_std
        self.dtype = getattr(torch, recipe.optimisation.precision)
        self.train_rows = torch.tensor(pairs.rows("train"), device=device)
        sources = pairs.column("source")
        self.sources = [sources[row] for row in self.train_rows.tolist()]
        # Weights are drawn from the recipe's seed, so that the same recipe gives the same model.
        with torch.random.fork_rng():
            torch.manual_seed(recipe.optimisation.seed)
            module = cast(nn.Module, UNet2DConditionModel(**recipe.arguments))
        self.module = module.to(memory_format=torch.channels_last).to(device)
        self._fix_validation(pairs.rows("val"), recipe)

    def _fix_validation(self, held_out: list[int], recipe: DenoiserRecipe) -> None:
        """Choose rows, noise and times once: the figure moves only when the model does."""
        draw = generator(recipe.optimisation.seed, "validation")
        count = min(recipe.optimisation.validation_size, len(held_out))
        rows = torch.tensor(held_out)[torch.randperm(len(held_out), generator=draw)[:count]]
        rows, draw = rows.to(self.device), on_device(draw, self.device)
        x = self.latents.sample(rows, draw)
        # Evenly spread times make the mean an integral over t, with little left to chance.
        quantiles = torch.special.ndtri((torch.arange(count) + 0.5) / count)
        times = torch.sigmoid(self.logit_std * quantiles).to(self.device)
        noise = torch.randn(x.shape, generator=draw, device=self.device)
        self.validation = (rows, x, noise, times)

    def _mse(self, module: nn.Module, x: Tensor, noise: Tensor, t: Tensor, text: Tensor) -> Tensor:
        x_t, velocity = noised(x, noise, t)
        x_t = x_t.contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            torch.device(self.device).type, self.dtype, enabled=self.dtype != torch.float32
        ):
            predicted = module(x_t, t * TIMESTEPS, text, return_dict=False)[0]
        return (predicted.float() - velocity).square().mean((1, 2, 3))  # (B,)

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        rows, draw = self.train_rows[rows.to(self.device)], on_device(draw, self.device)
        x = self.latents.sample(rows, draw)
        chance = torch.rand(len(rows), generator=draw, device=self.device)
        t = draw_times(len(rows), self.logit_std, draw)
        noise = torch.randn(x.shape, generator=draw, device=self.device)
        dropped = chance < self.caption_dropout
        text = self.latents.text(rows, dropped)
        return {"loss": self._mse(self.module, x, noise, t, text).mean()}

    @torch.no_grad()
    def validate(self, module: nn.Module, batch: int = 64) -> dict[str, float]:
        rows, x, noise, t = self.validation
        kept = torch.zeros(batch, dtype=torch.bool, device=self.device)
        losses = []
        for start in range(0, len(rows), batch):
            part = slice(start, start + batch)
            text = self.latents.text(rows[part], kept[: len(rows[part])])
            losses.append(self._mse(module, x[part], noise[part], t[part], text))
        return {"loss": torch.cat(losses).mean().item()}

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, UNet2DConditionModel)
        module.save_pretrained(folder, safe_serialization=True)
