"""How much a denoiser errs on images: what attacks on membership measure.

Noise, times and targets are those of training (`models.noise_process`).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.image_text import Captioned
from vesalius.models.generator import Generator
from vesalius.models.noise_process import Process, add_noise, process_of
from vesalius.models.text import encode_prompts

TIMES = (0.1, 0.3, 0.5, 0.7)  # share of the way to noise
NOISES = 4  # at each time
PIA_TIME = 0.2  # t = 200 of 1,000


@torch.inference_mode()
def denoising_errors(
    generator: Generator,
    images: Iterable[np.ndarray],
    captions: Sequence[str],
    *,
    times: Sequence[float] = TIMES,
    noises: int = NOISES,
    seed: int = 0,
    batch_size: int = 8,
    on_image: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Mean squared error of the denoiser for each image at each time: (N, len(times)) float32.

    `images` are uint8 (H, W, 3), all of one size that the model takes, and are read as they come.
    All of them get the same noises, which `seed` decides: none is luckier than another, and the
    error of an image does not depend on the others. Load the generator in float32: the differences
    looked for are small. For a textual inversion, the captions hold its word.
    Raises VesaliusError for no images, another number of captions, and sizes that do not fit.
    """
    if not captions or not times or noises < 1:
        raise VesaliusError("denoising errors need an image, a time and a noise at least")
    found: list[np.ndarray] = []
    shape = None
    for part, batch in Captioned(images, captions).batches(batch_size, on_image):
        shape = shape or batch[0].shape
        x, text = _latents(generator, batch, shape), _encoded(generator, captions[part])
        errors = [_errors(generator, x, text, time, noises, seed) for time in times]
        found.append(torch.stack(errors, 1).cpu().numpy())
    return np.concatenate(found)


@torch.inference_mode()
def proximal_errors(
    generator: Generator,
    images: Iterable[np.ndarray],
    captions: Sequence[str],
    *,
    time: float = PIA_TIME,
    batch_size: int = 8,
    on_image: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The feature of PIA (Kong et al. 2024, arXiv:2305.18355), (N,) float32: two forward passes an image.

    The model's own noise at time 0 noises the image to `time`; the feature is the root mean square of
    how far the noise predicted there is from it. Less for images that were trained on.
    """
    found: list[np.ndarray] = []
    shape, process = None, process_of(generator.scheduler, generator.device)
    start, t = process.at(0.0).to(generator.device), process.at(time).to(generator.device)
    for part, batch in Captioned(images, captions).batches(batch_size, on_image):
        shape = shape or batch[0].shape
        x, text = _latents(generator, batch, shape), _encoded(generator, captions[part])
        first = _noise_at(generator, process, x, start, text)
        again = _noise_at(generator, process, add_noise(process, x, first, t), t, text)
        found.append((again - first).square().mean((1, 2, 3)).sqrt().cpu().numpy())
    return np.concatenate(found)


def _noise_at(
    generator: Generator, process: Process, x_t: Tensor, t: Tensor, text: Tensor
) -> Tensor:
    """The noise (B, C, h, w) that the model sees in `x_t` at the time `t`, whatever it predicts."""
    dtype = generator.dtype
    predicted = generator.unet(
        x_t.to(dtype, memory_format=torch.channels_last),
        process.timestep(t),
        text.to(dtype),
        return_dict=False,
    )[0].float()
    return process.noise(x_t, predicted, t)


def _encoded(generator: Generator, captions: Sequence[str]) -> Tensor:
    """Text states (B, T, D), equal captions encoded once."""
    distinct = list(dict.fromkeys(captions))
    parts = (generator.tokenizer, generator.text_encoder)
    states = encode_prompts(*parts, distinct, generator.caption_chunks).to(generator.device)
    return states[[distinct.index(caption) for caption in captions]]


def _latents(generator: Generator, images: list[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    """Scaled latents (B, C, h, w) float32: the posterior's mean, which needs no draw."""
    sides, multiple = shape[:2], generator.size_multiple
    for image in images:
        if image.dtype != np.uint8 or image.shape != shape or image.shape[2:] != (3,):
            raise VesaliusError(
                f"images are uint8 (H, W, 3) of one size, not {image.dtype} {image.shape} "
                f"after {shape}"
            )
    if any(side % multiple for side in sides):
        raise VesaliusError(f"{sides[1]}x{sides[0]} px are not multiples of {multiple}")
    weight = next(generator.vae.parameters())
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(weight) / 127.5 - 1
    coded = generator.vae.encode(pixels.contiguous(memory_format=torch.channels_last))
    mean = coded.latent_dist.mean if hasattr(coded, "latent_dist") else coded.latents
    latents = mean.float() * generator.vae.config.scaling_factor
    return latents.to(generator.device)


def _errors(
    generator: Generator, x: Tensor, text: Tensor, time: float, noises: int, seed: int
) -> Tensor:
    """Mean squared error (B,) over `noises` draws, the same for every image."""
    dtype, errors = generator.dtype, torch.zeros(len(x), device=x.device)
    process = process_of(generator.scheduler, x.device)
    t = process.at(time).to(x.device)
    for number in range(noises):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + number)
        noise = torch.randn(x.shape[1:], generator=draw).to(x.device).expand_as(x)
        x_t = add_noise(process, x, noise, t).to(dtype, memory_format=torch.channels_last)
        predicted = generator.unet(x_t, process.timestep(t), text.to(dtype), return_dict=False)[0]
        errors += (predicted.float() - process.target(x, noise, t)).square().mean(
            (1, 2, 3)
        ) / noises
    return errors
