"""Starting from an image, or keeping a part of one: right with every sampler, for noise and flow."""

import pytest
import torch

from vesalius.models.generator import load_generator
from vesalius.models.noise_process import is_flow
from vesalius.sample.denoise import fresh_scheduler, make_batch
from vesalius.sample.edit import Known, edit, noised
from vesalius.sample.guidance import Guidance, Text
from vesalius.sample.samplers import NAMES, make_sampler

STEPS = 5
SHAPE = (4, 4, 4)


class Oracle(torch.nn.Module):
    """A denoiser that knows the image: it always predicts the way to `target`."""

    def __init__(self, target, levels):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))  # says device and precision
        self.target, self.levels = target, levels

    def forward(self, latents, timestep, encoder_hidden_states, return_dict):
        target = self.target[: len(latents)]
        if self.levels is None:  # v = e - x_0 on x_s = (1 - s) x_0 + s e
            return ((latents - target) / (timestep / 1000),)
        level = self.levels[int(timestep)]
        return ((latents - level.sqrt() * target) / (1 - level).sqrt(),)


@pytest.fixture(scope="module", params=["tiny_sd", "tiny_flow"])
def scheduler(request):
    own = load_generator(request.getfixturevalue(request.param), "cpu", "float32").scheduler
    # without the trace of noise that DDIM leaves in Stable Diffusion's latents on purpose
    return type(own).from_config(own.config, set_alpha_to_one=True)


def some_latents(seed, count=2):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def run(name, scheduler, known, target, steps=STEPS, on_step=None):
    oracle = Oracle(target, None if is_flow(scheduler) else scheduler.alphas_cumprod)
    text = Text(torch.zeros(2, 1, 3, 8), torch.zeros(1, 3, 8))
    sampler = make_sampler(name, scheduler)
    ready = make_batch(oracle, sampler, text, Guidance(1.0), steps=steps, seeds=[1, 2], shape=SHAPE)
    return edit(ready, known, on_step)


def left_half():
    mask = torch.zeros(2, 1, 4, 4)
    mask[..., :2] = 1
    return mask


@pytest.mark.parametrize("name", ["", *NAMES])
@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_noise_that_is_added_is_taken_out_again(scheduler, name, strength):
    """Begun at a step that does not fit the noise, a perfect denoiser would leave some in."""
    image = some_latents(3)
    found = run(name, scheduler, Known(image, strength), image)
    torch.testing.assert_close(found, image, rtol=0, atol=5e-3)


@pytest.mark.parametrize("name", ["", *NAMES])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_mask_keeps_one_half_and_draws_the_other(scheduler, name, strength):
    image, target = some_latents(3), some_latents(4)
    found = run(name, scheduler, Known(image, strength, left_half()), target)
    assert torch.equal(found[..., 2:], image[..., 2:])
    drawn = found[..., :2]
    assert (drawn - target[..., :2]).abs().max() < (drawn - image[..., :2]).abs().max() / 20


@pytest.mark.parametrize("name", ["", *NAMES])
def test_no_strength_and_no_mask_give_the_image_itself(scheduler, name):
    image, target = some_latents(3), some_latents(4)
    nothing = torch.zeros(2, 1, 4, 4)
    assert torch.equal(run(name, scheduler, Known(image, 0.0), target), image)
    assert torch.equal(run(name, scheduler, Known(image, 0.5, nothing), target), image)
    assert torch.equal(run(name, scheduler, Known(image, 1.0, nothing), target), image)


def ready(name, scheduler):
    sampler = fresh_scheduler(make_sampler(name, scheduler))
    sampler.set_timesteps(STEPS)
    return sampler


def test_noising_is_the_formula(tiny_sd, tiny_flow):
    image, noise = some_latents(3), some_latents(5)
    noisy, flow = (load_generator(f, "cpu", "float32").scheduler for f in (tiny_sd, tiny_flow))
    for name in ("ddim", "dpm++2m"):  # sqrt(a) x + sqrt(1 - a) e
        sampler = ready(name, noisy)
        a = sampler.alphas_cumprod[int(sampler.timesteps[2])]
        expected = a.sqrt() * image + (1 - a).sqrt() * noise
        torch.testing.assert_close(noised(sampler, image, noise, 2), expected)
    sampler = ready("euler", noisy)  # x + sigma e
    torch.testing.assert_close(noised(sampler, image, noise, 2), image + sampler.sigmas[2] * noise)
    for name in ("dpm++2m", "euler"):  # (1 - s) x + s e
        sampler = ready(name, flow)
        s = sampler.sigmas[2]
        torch.testing.assert_close(noised(sampler, image, noise, 2), (1 - s) * image + s * noise)
        assert torch.equal(noised(sampler, image, noise, STEPS), image)


def test_steps_that_are_left_out_are_not_counted(scheduler):
    told = []
    image = some_latents(3)
    report = {"steps": 10, "on_step": lambda *counts: told.append(counts)}
    run("dpm++2m", scheduler, Known(image, 0.3), image, **report)
    assert told == [(1, 3), (2, 3), (3, 3)]
