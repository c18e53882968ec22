"""A look at latents is near to what the decoder makes of them."""

import numpy as np
import torch

from vesalius.models.generator import load_generator
from vesalius.sample.autoencoder import decode, encode
from vesalius.serve.preview import find_preview


def test_a_preview_is_near_the_image():
    vae = load_generator("mini", "cpu").vae
    preview = find_preview(vae)
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (128, 1))] * 3, axis=-1)
    picture[40:90, 30:100] = (200, 120, 90)
    latents = encode(vae, torch.from_numpy(picture)[None])
    whole = decode(vae, latents)[0].float().reshape(16, 8, 16, 8, 3).mean(dim=(1, 3))
    look = torch.from_numpy(preview.pixels(latents)[0]).float()
    assert look.shape == (16, 16, 3)
    assert (look - whole).abs().mean() < 25
