import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)

from vesalius.config import Objective
from vesalius.errors import VesaliusError
from vesalius.models.noise_process import (
    TIMESTEPS,
    Diffusion,
    Flow,
    add_noise,
    alphas_cumprod,
    is_flow,
    min_snr_weight,
    offset_noise,
    process_of,
    snr,
    training_process,
    zero_terminal_snr,
)

STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def test_a_perfect_denoiser_recovers_the_image_in_the_bundled_scheduler():
    """The scheduler's flow convention is the one that is trained: a known answer comes back."""
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    assert scheduler.config.num_train_timesteps == TIMESTEPS
    scheduler.set_timesteps(10)
    draw = torch.Generator().manual_seed(0)
    image, noise = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 4, 8, 8, generator=draw)
    sigma = scheduler.sigmas[0]
    flow, t = process_of(scheduler), sigma.expand(2)
    latents, velocity = add_noise(flow, image, noise, t), flow.target(image, noise, t)
    for timestep in scheduler.timesteps:
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(latents, image, atol=1e-4, rtol=1e-4)


def test_times_lie_inside_the_path_and_around_its_middle():
    times = Flow().draw(10_000, torch.Generator().manual_seed(0))
    assert times.min() > 0 and times.max() < 1
    assert abs(times.mean() - 0.5) < 0.01


def test_the_ends_of_the_path():
    x, noise = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    x_t = add_noise(Flow(), x, noise, torch.tensor([0.0, 1.0]))
    assert x_t.flatten().tolist() == [1, 0]
    assert Flow().target(x, noise, x_t).flatten().tolist() == [-1, -1]


def test_min_snr_weighs_the_image_error_alike_whatever_is_predicted():
    """An error of x_0 is one of the noise times SNR, and one of v times SNR + 1, up to the square
    that both share: the weights must agree on it, or switching the prediction switches the loss."""
    ratio = torch.logspace(-4, 4, 50)
    image = ratio.clamp_max(5)
    torch.testing.assert_close(min_snr_weight(ratio, 5, "epsilon") * ratio, image)
    torch.testing.assert_close(min_snr_weight(ratio, 5, "v_prediction") * (ratio + 1), image)


def test_min_snr_is_finite_and_not_zero_on_a_zero_terminal_schedule():
    ratio = snr(zero_terminal_snr(alphas_cumprod(STABLE)))
    assert ratio[-1] == 0
    for prediction in ("epsilon", "v_prediction"):
        weight = min_snr_weight(ratio, 5, prediction)
        assert torch.isfinite(weight).all()
        assert weight[-1] == 1


def test_at_pure_noise_v_is_minus_the_image_and_epsilon_is_refused():
    zero = {**STABLE, "rescale_betas_zero_snr": True}
    process = training_process(DDIMScheduler(**zero, prediction_type="v_prediction"), Objective())
    x, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    last = torch.tensor([999, 999])
    torch.testing.assert_close(add_noise(process, x, noise, last), noise)
    torch.testing.assert_close(process.target(x, noise, last), -x)
    with pytest.raises(VesaliusError, match="predicts v"):
        training_process(DDIMScheduler(**zero), Objective())


def test_times_cover_the_whole_schedule():
    process = process_of(DDIMScheduler(**STABLE))
    assert isinstance(process, Diffusion)
    drawn = process.draw(20_000, torch.Generator().manual_seed(0))
    assert (drawn.min(), drawn.max()) == (0, 999)
    spread = process.spread(10)
    assert spread.tolist() == list(range(50, 1000, 100))


def test_offset_noise_moves_means_and_nothing_is_drawn_without_it():
    draw = torch.Generator().manual_seed(0)
    noise = torch.zeros(500, 4, 8, 8)
    state = draw.get_state()
    assert offset_noise(noise, 0, draw) is noise
    assert torch.equal(draw.get_state(), state)
    moved = offset_noise(noise, 0.1, draw)
    assert moved.std((2, 3)).max() == 0
    assert moved.mean((2, 3)).std().item() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(prediction_type="sample"),
        DDPMScheduler(beta_schedule="sigmoid"),
        DPMSolverMultistepScheduler(prediction_type="flow_prediction"),
    ],
)
def test_what_cannot_be_trained_is_refused(scheduler):
    with pytest.raises(VesaliusError):
        training_process(scheduler, Objective(min_snr_gamma=5))


@pytest.mark.parametrize(
    "scheduler",
    [
        PNDMScheduler(**STABLE),
        DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
        DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2"),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.55, 0.999])
def test_noise_is_added_by_the_schedulers_own_schedule(scheduler, share):
    x, noise = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    process = process_of(scheduler)
    t = process.at(share)
    assert process.timestep(t).tolist() == [int(1000 * share)]
    a = scheduler.alphas_cumprod[t].view(1, 1, 1, 1)
    theirs = a.sqrt() * x + (1 - a).sqrt() * noise
    torch.testing.assert_close(add_noise(process, x, noise, t), theirs, atol=1e-5, rtol=1e-5)


def test_a_flow_is_known_by_its_class_its_prediction_or_its_levels():
    from vesalius.sample.flow import FlowHeun

    dpm = DPMSolverMultistepScheduler
    flows = [
        FlowMatchEulerDiscreteScheduler(),
        FlowHeun(),
        dpm(prediction_type="flow_prediction"),
        dpm(use_flow_sigmas=True, prediction_type="flow_prediction"),
    ]
    assert all(is_flow(scheduler) for scheduler in flows)
    assert not any(is_flow(scheduler) for scheduler in (dpm(), DDIMScheduler()))


def test_what_cannot_be_noised_is_told():
    with pytest.raises(VesaliusError, match="below 1"):
        Flow().at(1.0)
    with pytest.raises(VesaliusError, match="'odd'"):
        process_of(DDIMScheduler(prediction_type="odd"))
