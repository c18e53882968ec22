"""What several benchmarks measure with: drawn pictures, and the scheduler of Stable Diffusion 1.x."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from diffusers import PNDMScheduler


def picture(number: int, side: int) -> Image.Image:
    """A smooth random field with noise: it takes as long to decode as a photograph."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth, np.int16) + rng.integers(-8, 8, (side, side, 1), np.int16)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def stable_diffusion_scheduler() -> "PNDMScheduler":
    """As Stable Diffusion 1.5 is published."""
    from diffusers import PNDMScheduler

    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
