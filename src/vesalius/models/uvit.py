"""U-ViT: a denoiser in which time, text and image patches are tokens of one sequence.

After Bao et al. 2023, "All are Worth Words" (https://arxiv.org/abs/2209.12152), in the size that
Chest-Diffusion (https://arxiv.org/abs/2407.00752) uses: 17 blocks, 58,437,284 parameters.
"""

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.errors import VesaliusError


class Block(nn.Module):
    """A pre-norm transformer block, (N, S, D) to (N, S, D); with `skip`, also a long skip's end."""

    def __init__(self, width: int, heads: int, *, skip: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.skip_linear = nn.Linear(2 * width, width) if skip else None
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.skip_linear is not None and skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))  # (N, S, 2 D) -> (N, S, D)
        x = x + self.proj(self._attend(self.norm1(x)))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (N, S, 3, H, D / H)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, H, S, D / H) each
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (N, S, D)


class UViT(ModelMixin, ConfigMixin):
    """Predicts noise, v or flow as a U-Net does, and is called and configured like one.

    The first half of the blocks hands its outputs to the second, last to first. `sample_size` is
    the latents' side or (height, width), in cells; `tokens` the most text states that it can take,
    `cross_attention_dim` their width. Raises VesaliusError for sizes that do not fit together.
    """

    _supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Any  # set by enable_gradient_checkpointing()

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        out_channels: int = 4,
        cross_attention_dim: int = 768,
        tokens: int = 256,
        width: int = 512,
        layers: int = 17,
        heads: int = 8,
        time_cond_proj_dim: None = None,  # stock pipelines ask every denoiser for it
    ) -> None:
        super().__init__()
        sides = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
        if any(side % patch_size for side in sides):
            raise VesaliusError(f"U-ViT: sample_size {sample_size} is no multiple of {patch_size=}")
        if layers % 2 == 0:
            raise VesaliusError(f"U-ViT: {layers=} must be odd: two halves and one in the middle")
        if width % heads or width % 2:
            raise VesaliusError(f"U-ViT: {width=} must be even and a multiple of {heads=}")
        self.patch_size, self.width, self.tokens = patch_size, width, tokens
        self.grid = (sides[0] // patch_size, sides[1] // patch_size)
        self.gradient_checkpointing = False

        self.patch_embed = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.context_embed = nn.Linear(cross_attention_dim, width)
        length = 1 + tokens + self.grid[0] * self.grid[1]  # time, text, patches
        self.pos_embed = nn.Parameter(torch.zeros(1, length, width))
        half = layers // 2
        self.in_blocks = nn.ModuleList(Block(width, heads) for _ in range(half))
        self.mid_block = Block(width, heads)
        self.out_blocks = nn.ModuleList(Block(width, heads, skip=True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, patch_size**2 * out_channels)
        self.final_layer = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.initialise()

    def initialise(self) -> None:
        """The paper's initial weights: normal (0.02, cut at 2) for all but convolutions and norms.

        The last layers start like the others, not at zero; the two convolutions keep torch's own.
        """
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        timestep_cond: None = None,  # this and the next two: stock pipelines pass them, empty
        cross_attention_kwargs: None = None,
        added_cond_kwargs: None = None,
        return_dict: bool = True,
    ) -> UNet2DConditionOutput | tuple[Tensor]:
        """Latents (N, C, h, w), times 0 to 1000 (N,) or one for all, text (N, T, E) -> (N, C, h, w).

        Fewer text states than `tokens` take the first text positions; another h and w than
        `sample_size` interpolates those of the patches. Raises VesaliusError for more text.
        """
        patches = self.patch_embed(sample)  # (N, D, rows, columns)
        rows, columns = patches.shape[-2:]
        patches = patches.flatten(2).transpose(1, 2)  # (N, L, D), L = rows * columns
        times = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        time = get_timestep_embedding(times, self.width, True, downscale_freq_shift=0)  # (N, D)
        text = self.context_embed(encoder_hidden_states)  # (N, T, D)
        x = torch.cat([time[:, None].to(patches.dtype), text, patches], dim=1)  # (N, 1 + T + L, D)
        x = x + self._positions(text.shape[1], rows, columns)

        skips: list[Tensor] = []
        for block in self.in_blocks:
            x = self._run(block, x)
            skips.append(x)
        x = self._run(self.mid_block, x)
        for block in self.out_blocks:
            x = self._run(block, x, skips.pop())

        x = self.decoder_pred(self.norm(x))[:, 1 + text.shape[1] :]  # (N, L, p * p * C)
        p = self.patch_size
        x = x.unflatten(2, (p, p, -1)).unflatten(1, (rows, columns))  # (N, rows, columns, p, p, C)
        x = x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (N, C, h, w)
        x = self.final_layer(x)
        return UNet2DConditionOutput(sample=x) if return_dict else (x,)

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)

    def _positions(self, tokens: int, rows: int, columns: int) -> Tensor:
        """Learned positions (1, 1 + tokens + rows * columns, D) of time, text and patches."""
        if tokens > self.tokens:
            raise VesaliusError(
                f"{tokens} text states are given and this U-ViT takes {self.tokens}: lower the "
                "text encoder's tokens, or train it with more"
            )
        first, grid = self.pos_embed.tensor_split([1 + self.tokens], dim=1)
        if (rows, columns) != self.grid:
            image = grid.transpose(1, 2).unflatten(2, self.grid)  # (1, D, rows, columns) as trained
            image = F.interpolate(image, (rows, columns), mode="bicubic", align_corners=False)
            grid = image.flatten(2).transpose(1, 2)
        return torch.cat([first[:, : 1 + tokens], grid], dim=1)
