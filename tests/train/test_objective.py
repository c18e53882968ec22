import torch
from diffusers import DPMSolverMultistepScheduler

from vesalius.train.objective import TIMESTEPS, draw_times, noised


def test_a_perfect_denoiser_recovers_the_image_in_the_bundled_scheduler():
    """The scheduler's flow convention is the one that is trained: a known answer comes back."""
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    assert scheduler.config.num_train_timesteps == TIMESTEPS
    scheduler.set_timesteps(10)
    draw = torch.Generator().manual_seed(0)
    image, noise = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 4, 8, 8, generator=draw)
    sigma = scheduler.sigmas[0]
    latents, velocity = noised(image, noise, sigma.expand(2))
    for timestep in scheduler.timesteps:
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, image, atol=1e-4, rtol=1e-4)


def test_times_lie_inside_the_path_and_around_its_middle():
    times = draw_times(10_000, 1.0, torch.Generator().manual_seed(0))
    assert times.min() > 0 and times.max() < 1
    assert abs(times.mean() - 0.5) < 0.01


def test_the_ends_of_the_path():
    x, noise = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    x_t, velocity = noised(x, noise, torch.tensor([0.0, 1.0]))
    assert x_t.flatten().tolist() == [1, 0]
    assert velocity.flatten().tolist() == [-1, -1]
