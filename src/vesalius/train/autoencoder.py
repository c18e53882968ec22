"""Training an autoencoder: L1 for the values, LPIPS for the textures (Rombach et al. 2022)."""

from pathlib import Path

import diffusers
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vesalius.config import AutoencoderRecipe
from vesalius.data.latents import turn
from vesalius.data.pairs import Pairs
from vesalius.errors import VesaliusError
from vesalius.models.lpips import LPIPS
from vesalius.train.methods import generator, row_weights


def build_autoencoder(recipe: AutoencoderRecipe) -> nn.Module:
    """The autoencoder that the recipe describes, with its initial weights if it names any."""
    kind = getattr(diffusers, recipe.kind, None)
    if kind is None or not recipe.kind.startswith("Autoencoder"):
        raise VesaliusError(f"autoencoder.kind {recipe.kind!r} is not a diffusers autoencoder")
    model = kind(**recipe.arguments)
    if recipe.init:
        load_tiny(model, recipe.init)
    return model


def load_tiny(model: nn.Module, prefix: str) -> None:
    """Load a published TAESD (MIT), <prefix>_encoder and _decoder, into an AutoencoderTiny.

    The published decoder counts the clamp that precedes it as its layer 0; diffusers does not.
    """
    weights: dict[str, Tensor] = {}
    for part, shift in (("encoder", 0), ("decoder", 1)):
        path = Path(f"{prefix}_{part}.safetensors")
        if not path.is_file():
            raise VesaliusError(f"autoencoder.init: there is no file {path}")
        for name, value in load_file(path).items():
            index, rest = name.split(".", 1)
            weights[f"{part}.layers.{int(index) - shift}.{rest}"] = value.float()
    model.load_state_dict(weights)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image; x, y: (N, 3, H, W) in [-1, 1]."""
    mse = ((x.clamp(-1, 1) - y.clamp(-1, 1)) / 2).square().mean((1, 2, 3))
    return -10 * torch.log10(mse.clamp_min(1e-10))


class AutoencoderMethod:
    """Reconstruct random crops of the training images."""

    name = "autoencoder"

    def __init__(self, recipe: AutoencoderRecipe, pairs: Pairs, size: int, device: str) -> None:
        self.pairs, self.size, self.crop, self.device = pairs, size, recipe.crop, device
        self.lpips_weight = recipe.lpips_weight
        self.dtype = getattr(torch, recipe.optimisation.precision)
        self.rows = pairs.rows("train")
        sources = pairs.column("source")
        labels = pairs.column("label") if recipe.optimisation.balance == "label" else None
        self.row_weights = row_weights(
            [sources[row] for row in self.rows],
            recipe.optimisation.temperature,
            labels and [labels[row] for row in self.rows],
        )
        self.settings = recipe.model_dump(mode="json", exclude={"optimisation"}) | {"size": size}
        self.symmetric = [name == "square" for name in pairs.column("symmetry")]
        self.lpips = LPIPS("alex").to(device) if recipe.lpips_weight else None
        self.module = build_autoencoder(recipe).to(memory_format=torch.channels_last).to(device)
        draw = generator(recipe.optimisation.seed, "validation rows")
        held_out = pairs.rows("val")
        chosen = torch.randperm(len(held_out), generator=draw)
        self.validation_rows = [
            held_out[i] for i in chosen[: recipe.optimisation.validation_size].tolist()
        ]

    def _image(self, row: int) -> Tensor:
        return torch.from_numpy(self.pairs.image(row, self.size).copy()).permute(2, 0, 1)

    def _compare(self, module: nn.Module, images: list[Tensor]) -> dict[str, Tensor]:
        """Per image (B,): the loss and its parts, of uint8 images (3, h, w) reconstructed."""
        x = torch.stack(images).to(self.device).float() / 127.5 - 1  # (B, 3, h, w)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(
            torch.device(self.device).type, self.dtype, enabled=self.dtype != torch.float32
        ):
            y = module(x).sample.float()
            distance = self.lpips(x, y).float() if self.lpips else x.new_zeros(len(x))
        l1 = (y - x).abs().mean((1, 2, 3))
        loss = l1 + self.lpips_weight * distance
        return {"loss": loss, "l1": l1, "lpips": distance, "psnr": psnr(x, y.detach())}

    def loss(self, rows: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        crops, room = [], self.size - self.crop + 1
        for row in (self.rows[i] for i in rows.tolist()):
            top, left, symmetry = (
                int(torch.randint(n, (), generator=draw)) for n in (room, room, 8)
            )
            crop = self._image(row)[:, top : top + self.crop, left : left + self.crop]
            crops.append(turn(crop, symmetry if self.symmetric[row] else 0))
        return {name: value.mean() for name, value in self._compare(self.module, crops).items()}

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        figures = [self._compare(module, [self._image(row)]) for row in self.validation_rows]
        return {name: torch.cat([f[name] for f in figures]).mean().item() for name in figures[0]}

    def save(self, module: nn.Module, folder: Path) -> None:
        module.save_pretrained(folder, safe_serialization=True)  # pyright: ignore[reportCallIssue]
