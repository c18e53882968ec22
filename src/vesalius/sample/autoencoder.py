"""Between pixels and latents, one image at a time.

The decoder's activations are the peak of memory, and an image then does not depend on its neighbours
even in the last bit.
"""

from typing import Any

import torch
from torch import Tensor

from vesalius.errors import VesaliusError


@torch.inference_mode()
def decode(vae: Any, latents: Tensor, bits: int = 8) -> Tensor:
    """Latents (N, C, h, w) to pixels on the CPU: uint8 (N, H, W, 3), or of 16 `bits` uint16 (N, H, W).

    16 bits are grey, the mean of the decoder's channels before any rounding.
    Raises VesaliusError where an image is not finite: it would be black.
    """
    weights = next(vae.parameters())
    images, finite = [], []
    for latent in latents.to(weights.device, weights.dtype).split(1):
        image = vae.decode(latent / vae.config.scaling_factor, return_dict=False)[0]
        finite.append(image.isfinite().all())
        unit = (image.float() / 2 + 0.5).clamp(0, 1)  # (1, 3, H, W)
        if bits == 16:
            images.append(unit.mean(1).mul(65535).round().to(torch.int32))
        else:
            images.append(unit.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1))
    pixels = torch.cat(images).cpu()  # together: each copy waits for the device
    if not torch.stack(finite).all():
        raise VesaliusError(
            "an image is not finite: the model overflows in this number format (try --dtype float32), "
            "or was not trained to an end"
        )
    return pixels.to(torch.uint16) if bits == 16 else pixels


@torch.inference_mode()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """Pixels (N, H, W, 3), uint8, to latents (N, C, h, w), float32: the posterior's mean."""
    weights = next(vae.parameters())
    latents = []
    for image in pixels.permute(0, 3, 1, 2).split(1):
        coded = vae.encode((image.float() / 127.5 - 1).to(weights.device, weights.dtype))
        mean = coded.latent_dist.mean if hasattr(coded, "latent_dist") else coded.latents
        latents.append(mean.float() * vae.config.scaling_factor)
    return torch.cat(latents)
