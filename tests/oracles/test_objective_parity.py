"""The objectives against diffusers' own noising, velocities, ratios and rescaled schedules."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr

from vesalius.config import Objective
from vesalius.models.noise_process import (
    Diffusion,
    add_noise,
    alphas_cumprod,
    snr,
    training_process,
    zero_terminal_snr,
)

SCHEDULES = [
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.01, 0.02, 0.03, 0.2], "num_train_timesteps": 4},
]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noising_targets_and_ratios_are_those_of_diffusers(schedule, prediction):
    theirs = DDPMScheduler(prediction_type=prediction, **schedule)
    ours = training_process(theirs, Objective())
    assert isinstance(ours, Diffusion)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, atol=1e-6, rtol=1e-4)
    draw = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(6, 4, 8, 8, generator=draw) for _ in range(2))
    t = ours.draw(6, draw)
    noised, target = add_noise(ours, x, noise, t), ours.target(x, noise, t)
    torch.testing.assert_close(noised, theirs.add_noise(x, noise, t), atol=1e-5, rtol=1e-4)
    expected = noise if prediction == "epsilon" else theirs.get_velocity(x, noise, t)
    torch.testing.assert_close(target, expected, atol=1e-5, rtol=1e-4)
    ratio = snr(ours.alphas_cumprod[t])
    torch.testing.assert_close(ratio, compute_snr(theirs, t), atol=1e-5, rtol=2e-3)


@pytest.mark.parametrize("schedule", SCHEDULES[:2])
def test_the_rescaled_schedule_is_that_of_diffusers(schedule):
    betas = DDPMScheduler(**schedule).betas
    expected = torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0)
    ours = zero_terminal_snr(alphas_cumprod(schedule))
    assert ours[-1] == 0
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
