"""The loop: guidance is the formula, and an image depends on its own seed only."""

import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.models.generator import load_generator
from vesalius.sample.autoencoder import decode
from vesalius.sample.denoise import denoise, first_noise, fresh_scheduler, make_batch, seeded
from vesalius.sample.guidance import Guidance, Text, guided


def test_guidance_is_the_formula_in_one_call():
    calls = []

    def denoiser(latents, timestep, states):
        calls.append(len(latents))
        return latents + states.mean(dim=(1, 2))[:, None, None, None]

    latents, timestep = torch.zeros(2, 1, 1, 1), torch.tensor(1)
    text = Text(torch.full((2, 1, 3, 4), 5.0), torch.full((2, 3, 4), 1.0))
    assert guided(denoiser, latents, timestep, text, 3.0).flatten().tolist() == [13, 13]
    assert calls == [4]
    assert guided(denoiser, latents, timestep, text, 1.0).flatten().tolist() == [5, 5]
    assert calls == [4, 2]


def test_noise_belongs_to_the_seed():
    both = first_noise(seeded([3, 4]), (4, 2, 2))
    alone = first_noise(seeded([4]), (4, 2, 2))
    assert torch.equal(both[1:], alone)
    assert not torch.equal(both[0], both[1])


def run(generator, scheduler, seeds):
    states = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(1))
    text = Text(states.expand(len(seeds), 1, -1, -1), torch.zeros(1, 16, 8))
    ready = make_batch(
        generator.unet, scheduler, text, Guidance(3.0), steps=5, seeds=seeds, shape=(4, 4, 4)
    )
    return denoise(ready)


@pytest.mark.parametrize(
    "name", ["EulerAncestralDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"]
)
def test_an_image_does_not_depend_on_its_neighbours(tiny_sd, name):
    import diffusers

    generator = load_generator(tiny_sd, "cpu", "float32")
    scheduler = getattr(diffusers, name).from_config(generator.scheduler.config)
    together = run(generator, scheduler, [5, 6, 7])
    alone = run(generator, scheduler, [6])
    assert together.shape == (3, 4, 4, 4)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)
    # the scheduler is left as it was: a second run is the same run
    assert torch.equal(run(generator, scheduler, [5, 6, 7]), together)


def test_pixels_are_bytes_and_independent_of_the_batch(tiny_flow):
    generator = load_generator(tiny_flow, "cpu", "float32")
    latents = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels = decode(generator.vae, latents)
    assert pixels.shape == (3, 32, 32, 3)
    assert pixels.dtype == torch.uint8
    assert torch.equal(decode(generator.vae, latents[1:2]), pixels[1:2])


@pytest.mark.parametrize("bits", [8, 16])
def test_an_image_that_is_not_finite_is_told_and_not_black(tiny_flow, bits):
    vae = load_generator(str(tiny_flow), "cpu").vae
    latents = torch.zeros(2, 4, 4, 4)
    latents[1, 0, 0, 0] = torch.nan
    with pytest.raises(VesaliusError, match="--dtype float32"):
        decode(vae, latents, bits)


def test_latents_are_never_clipped_as_pixels_are():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=True, steps_offset=0)
    fresh = fresh_scheduler(scheduler)
    assert not fresh.config.clip_sample
    assert fresh.config.steps_offset == 1
    assert scheduler.config.clip_sample  # the given one is left alone
