"""Training an autoencoder: L1 for the values, LPIPS for the textures (Rombach et al. 2022).

A third loss is for sharpness: that of a patch discriminator that learns beside the autoencoder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from vesalius.config import AutoencoderRecipe
from vesalius.errors import VesaliusError
from vesalius.models.networks.lpips import LPIPS
from vesalius.pairs.table import Pairs
from vesalius.train.crops import Crops
from vesalius.train.discriminator import BETAS, PatchDiscriminator, balance, hinge
from vesalius.train.draws import generator, on_device
from vesalius.train.method import Method
from vesalius.train.modes import mixed_precision
from vesalius.train.resuming import images_of
from vesalius.train.rows import choose_rows
from vesalius.train.session import Session
from vesalius.train.tiny import build_from, build_tiny, load_tiny

VALIDATION_BATCH = 8
# Fields that came later: at these values a run is the one that was begun without them.
LATER = {
    "encoder": None,
    "train": "all",
    "grey_weight": 0.0,
    "latent_noise": 0.0,
    "discriminator_weight": 0.0,
    "discriminator_lr_scale": 1.0,
    "discriminator_start_images": 0,
}


def build_autoencoder(recipe: AutoencoderRecipe) -> nn.Module:
    """The autoencoder that the recipe describes, with its initial weights if it names any."""
    if recipe.encoder:
        return build_from(recipe.encoder, recipe.arguments)
    model = network_of(recipe)
    if recipe.init:
        load_tiny(model, recipe.init)
    return model


def network_of(recipe: AutoencoderRecipe) -> nn.Module:
    """The class and shape that the recipe names, with random weights."""
    kind = getattr(diffusers, recipe.kind, None)
    if kind is None or not recipe.kind.startswith("Autoencoder"):
        raise VesaliusError(f"autoencoder.kind {recipe.kind!r} is not a diffusers autoencoder")
    tiny = recipe.kind == "AutoencoderTiny"
    return build_tiny(recipe.arguments) if tiny else kind(**recipe.arguments)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image; x, y: (N, 3, H, W) in [-1, 1]."""
    mse = ((x.clamp(-1, 1) - y.clamp(-1, 1)) / 2).square().mean((1, 2, 3))
    return -10 * torch.log10(mse.clamp_min(1e-10))


def tint(x: Tensor, y: Tensor) -> Tensor:
    """How far y's channels differ where x has no colour: (N,), 0 for an x that has any.

    Mean |y_c - mean_c y|; x, y: (N, 3, H, W).
    """
    grey = (x == x[:, :1]).flatten(1).all(1)
    return grey * (y - y.mean(1, keepdim=True)).abs().mean((1, 2, 3))


class AutoencoderMethod(Method):
    """Reconstruct random crops of the training images.

    With a discriminator the gradient that the decoder gets at its image y is

        g = g_rec + w |g_rec| / |g_adv| g_adv,

    g_rec that of L1, LPIPS and tint, g_adv that of the discriminator and w `discriminator_weight`:
    VQGAN's adaptive weight (Esser et al. 2021, arXiv:2012.09841, equation 7), taken at y itself.
    The pull is as strong when the discriminator knows nothing, and then it pulls to chance: it
    must learn several times faster than the decoder (`discriminator_lr_scale`).

    Each loss is gone back through once. All losses, the discriminator's own included, are one
    backward pass and one step of the optimiser: each network gets its own gradient alone.

    The validation loss has no part that knows sharp from blurred: with a discriminator the weights
    that come out are the last ones, and L1, LPIPS and PSNR are there to be looked at.
    """

    name = "autoencoder"

    def __init__(
        self, recipe: AutoencoderRecipe, pairs: Pairs, size: int, session: Session
    ) -> None:
        self.recipe, self.device, self.seen_images = recipe, session.device, 0
        plan = recipe.optimisation
        self.dtype = getattr(torch, plan.precision)
        chosen = choose_rows(pairs, plan)
        self.rows, self.row_weights = chosen.train, chosen.weights
        self.validation_rows = chosen.validated(plan, generator(plan.seed, "validation rows"))
        fields = recipe.model_dump(mode="json", exclude={"optimisation"})
        later = {name for name, value in fields.items() if LATER.get(name, ...) == value}
        self.settings = {k: v for k, v in fields.items() if k not in later} | {"size": size}
        self.symmetric = [name == "square" for name in pairs.column("symmetry")]
        self.lpips = LPIPS("alex").to(self.device) if recipe.lpips_weight else None
        rows = self.rows + self.validation_rows
        self.settings |= images_of(pairs, rows)
        self.crops = Crops(pairs, rows, size, recipe.crop, self.device, session.progress)
        self._build()

    def _build(self) -> None:
        """The networks, and `module`, which holds those that train."""
        # Weights are drawn from the recipe's seed, so that the same recipe gives the same model.
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.optimisation.seed)
            self.autoencoder: Any = build_autoencoder(self.recipe)
            self.discriminator = PatchDiscriminator() if self.recipe.discriminator_weight else None
        self.keeps_last = self.discriminator is not None
        self.decoder_alone = self.recipe.train == "decoder"
        self.autoencoder.to(memory_format=torch.channels_last).to(self.device)
        self.module: nn.Module = self.autoencoder
        parts: dict[str, nn.Module] = {"autoencoder": self.autoencoder}
        if self.decoder_alone:
            self.autoencoder.encoder.requires_grad_(False)
            parts = {"decoder": self.autoencoder.decoder}
        if self.discriminator is not None:
            self.discriminator.to(memory_format=torch.channels_last).to(self.device)
            parts["discriminator"] = self.discriminator
        if self.decoder_alone or self.discriminator is not None:
            self.module = nn.ModuleDict(parts)

    def parameter_groups(self) -> list[dict[str, Any]]:
        judge = [] if self.discriminator is None else list(self.discriminator.parameters())
        known = {id(weight) for weight in judge}
        own = [p for p in self.module.parameters() if p.requires_grad and id(p) not in known]
        groups: list[dict[str, Any]] = [{"params": own}]
        if judge:
            scale = self.recipe.discriminator_lr_scale
            groups.append({"params": judge, "lr_scale": scale, "betas": BETAS})
        return groups

    def before_step(self, seen: int) -> None:
        self.seen_images = seen

    def autocast(self) -> torch.autocast:
        """Mixed precision as the recipe says."""
        return mixed_precision(self.device, self.dtype)

    def _reconstruct(self, x: Tensor, draw: torch.Generator | None) -> Tensor:
        """There and back, (B, 3, h, w) in [-1, 1]; with `draw` half of the latents get noise."""
        with self.autocast():
            if not self.decoder_alone:
                return self.autoencoder(x).sample.float()
            with torch.no_grad():
                latents = self.autoencoder.encode(x).latents.float()
                if draw is not None and self.recipe.latent_noise:
                    draw = on_device(draw, self.device)
                    noise = torch.randn(latents.shape, generator=draw, device=self.device)
                    chance = torch.rand(len(latents), 1, 1, 1, generator=draw, device=self.device)
                    std = self.recipe.latent_noise * latents.std()
                    latents = latents + (chance < 0.5) * std * noise
            return self.autoencoder.decode(latents).sample.float()

    def _compare(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Per image (B,): the loss and its parts, of images x and their reconstructions y."""
        figures = {"l1": (y - x).abs().mean((1, 2, 3))}
        with self.autocast():
            figures["lpips"] = self.lpips(x, y).float() if self.lpips else x.new_zeros(len(x))
        loss = figures["l1"] + self.recipe.lpips_weight * figures["lpips"]
        if self.recipe.grey_weight:
            figures["tint"] = tint(x, y)
            loss = loss + self.recipe.grey_weight * figures["tint"]
        return {"loss": loss, **figures, "psnr": psnr(x, y.detach())}

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        chosen = [self.rows[i] for i in rows.tolist()]
        x = signed(self.crops.random(chosen, [self.symmetric[row] for row in chosen], draw))
        y = self._reconstruct(x, draw)
        if self.discriminator is not None:
            return self._against(self.discriminator, x, y)
        return means([self._compare(x, y)])

    def _against(self, discriminator: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The means of the losses with a discriminator (see the class)."""
        image = y.detach().requires_grad_()  # where the autoencoder ends and the losses begin
        figures = means([self._compare(x, image)])
        (pull,) = torch.autograd.grad(figures["loss"], image)
        with self.autocast():
            real, made = discriminator(torch.cat([x, image])).float().chunk(2)
        figures["discriminator"] = hinge(real, made)
        if self.seen_images >= self.recipe.discriminator_start_images:
            figures["adversarial"] = hinge(made, real)
            (push,) = torch.autograd.grad(figures["adversarial"], image, retain_graph=True)
            figures["balance"] = self.recipe.discriminator_weight * balance(pull, push)
            pull = pull + figures["balance"] * push
            figures["loss"] = figures["loss"] + figures["balance"] * figures["adversarial"]
        # of the right value, and with these gradients: `pull` for y, its own for the discriminator
        carrier = (y * pull).sum() + figures["discriminator"]
        value = figures["loss"] + figures["discriminator"]
        return figures | {"loss": value.detach() + carrier - carrier.detach()}

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        rows, figures = self.validation_rows, []
        for start in range(0, len(rows), VALIDATION_BATCH):
            x = signed(self.crops.whole(rows[start : start + VALIDATION_BATCH]))
            figures.append(self._compare(x, self._reconstruct(x, None)))
        return {name: value.item() for name, value in means(figures).items()}

    def save(self, module: nn.Module, folder: Path) -> None:
        # a decoder is where it was in the autoencoder, and has the weights that are to be saved
        whole: Any = self.autoencoder if isinstance(module, nn.ModuleDict) else module
        whole.save_pretrained(folder, safe_serialization=True)


def signed(images: Tensor) -> Tensor:
    """Images (B, 3, h, w) uint8 as float32 in [-1, 1], channels last."""
    x = images.float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def means(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each figure over the images of all batches."""
    return {name: torch.cat([batch[name] for batch in batches]).mean() for name in batches[0]}
