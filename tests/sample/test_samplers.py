"""Samplers on data whose every image is known: pixels of one normal distribution.

There the best denoiser has a formula, and so has the image that each noise belongs to.
"""

import diffusers
import numpy as np
import pytest
import torch

from vesalius.errors import VesaliusError
from vesalius.sample.denoise import denoise, first_noise, fresh_scheduler, make_batch, seeded
from vesalius.sample.edit import Known, edit
from vesalius.sample.flow import FlowEulerAncestral
from vesalius.sample.guidance import Guidance, Text
from vesalius.sample.samplers import NAMES, make_sampler

MEAN, DEVIATION = 1.5, 0.6
SEEDS, SHAPE = range(4), (1, 16, 16)
KINDS = ("epsilon", "v", "flow")
REFUSED = {("v", "heun")}
PAIRS = [(kind, name) for kind in KINDS for name in NAMES if (kind, name) not in REFUSED]
DETERMINISTIC = [(kind, name) for kind, name in PAIRS if name != "euler-a"]


class Exact(torch.nn.Module):
    """The best denoiser of x_0 ~ N(MEAN, DEVIATION^2): a line through x_t = a x_0 + s e."""

    def __init__(self, kind, scheduler):
        super().__init__()
        self.kind, self.config = kind, scheduler.config
        self.levels = getattr(scheduler, "alphas_cumprod", None)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.asked = []  # the timesteps that it was told

    def forward(self, x, timestep, **_):
        t = float(timestep)
        self.asked.append(t)
        if self.kind == "flow":
            s = t / self.config.num_train_timesteps
            a = 1 - s
        else:
            kept = np.interp(t, np.arange(len(self.levels)), self.levels.double().numpy())
            a, s = kept**0.5, (1 - kept) ** 0.5
        away = (x.double() - a * MEAN) / (a**2 * DEVIATION**2 + s**2)
        clean, noise = MEAN + a * DEVIATION**2 * away, s * away
        told = {"epsilon": noise, "v": a * noise - s * clean, "flow": noise - clean}
        return (told[self.kind].float(),)


def own(kind, shift=1.0, timesteps=1000):
    """The scheduler in a model's folder."""
    if kind == "flow":
        return diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=shift,
            num_train_timesteps=timesteps,
        )
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if kind == "v":  # zero terminal SNR (Lin et al. 2024)
        betas |= {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    return diffusers.DDIMScheduler(**betas, timestep_spacing="trailing")


def sample(kind, name, steps, known=None, **options):
    scheduler = own(kind, **options)
    model = Exact(kind, scheduler)
    text = Text(torch.zeros(len(SEEDS), 1, 1, 1), torch.zeros(1, 1, 1))
    sampler = make_sampler(name, scheduler)
    ready = make_batch(model, sampler, text, Guidance(), steps=steps, seeds=SEEDS, shape=SHAPE)
    return edit(ready, known) if known else denoise(ready), model.asked


def error(kind, name, steps, **options):
    """Mean distance of the images to those that the noise belongs to."""
    latents, _ = sample(kind, name, steps, **options)
    noise = first_noise(seeded(SEEDS), SHAPE)
    if kind == "epsilon":  # the first level still has some image, and pure noise is taken for it
        a = own(kind).alphas_cumprod[-1]
        noise = (noise - a.sqrt() * MEAN) / (a * DEVIATION**2 + 1 - a).sqrt()
    return float((latents - MEAN - DEVIATION * noise).abs().mean())


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_every_sampler_makes_something_at_any_number_of_steps(kind, name, steps):
    latents, asked = sample(kind, name, steps)
    assert latents.shape == (len(SEEDS), *SHAPE)
    assert torch.isfinite(latents).all()
    assert latents.mean() == pytest.approx(MEAN, abs=0.1)
    assert len(asked) == (2 * steps - 1 if name == "heun" else steps)


@pytest.mark.parametrize(("kind", "name"), DETERMINISTIC)
def test_all_samplers_agree_on_the_image_in_the_end(kind, name):
    # 40 divides 1000 and 160 does not: diffusers' own DDIM is four times worse at 160 than this
    coarse, fine = error(kind, name, 40), error(kind, name, 160)
    assert fine < 0.012
    assert fine < max(coarse / 2.5, 0.002)  # a thousandth of noise is taken for image at the start


@pytest.mark.parametrize(
    ("name", "order"), [("ddim", 1), ("euler", 1), ("dpm++2m", 2), ("unipc", 2), ("heun", 2)]
)
def test_a_flow_sampler_has_the_order_of_accuracy_of_its_method(name, order):
    """Finer timesteps than a model's, as DPM-Solver++ and UniPC tell it whole ones only."""
    errors = [error("flow", name, steps, timesteps=100_000) for steps in (80, 160)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4)


@pytest.mark.parametrize("kind", ["epsilon", "v"])
@pytest.mark.parametrize("name", ["dpm++2m", "unipc"])
def test_second_order_is_worth_its_name_with_betas_too(kind, name):
    """There the last step, from a level that falls as 1 / sqrt(steps), leaves an error of order 1."""
    assert error(kind, name, 40) < 0.6 * error(kind, "euler", 40)


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_every_sampler_can_start_from_an_image(kind, name):
    """Begun at the wrong level, it would leave noise in the image, or smooth what is not noise."""
    image = MEAN + DEVIATION * first_noise(seeded(range(50, 54)), SHAPE)
    changed, asked = sample(kind, name, 40, known=Known(image, strength=0.5))
    assert len(asked) == (39 if name == "heun" else 20)
    assert changed.mean() == pytest.approx(MEAN, abs=0.06)
    assert changed.std() == pytest.approx(DEVIATION, abs=0.06)
    assert torch.corrcoef(torch.stack([changed.flatten(), image.flatten()]))[0, 1] > 0.1


def test_fresh_noise_leaves_the_right_distribution():
    for kind in KINDS:
        latents, _ = sample(kind, "euler-a", 200)
        assert latents.mean() == pytest.approx(MEAN, abs=0.06)
        assert latents.std() == pytest.approx(DEVIATION, abs=0.04)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_an_ancestral_step_has_as_much_noise_as_its_level_says(shift):
    clean = torch.full((4, 1, 64, 64), MEAN)
    noise = first_noise(seeded(range(4)), (1, 64, 64))
    scheduler = fresh_scheduler(FlowEulerAncestral(shift=shift))
    scheduler.set_timesteps(5)
    x = noise
    for k, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(noise - clean, timestep, x, generator=seeded(range(10 * k, 10 * k + 4)))
        x, after = x[0], float(scheduler.sigmas[k + 1])
        assert x.mean() == pytest.approx((1 - after) * MEAN, abs=0.03)
        assert x.std() == pytest.approx(after, abs=0.015)
        # what a perfect model would say of the new image: part of its noise is the first, part new
        noise = (x - (1 - after) * clean) / after if after else noise
    torch.testing.assert_close(x, clean)


def test_an_ancestral_step_of_a_flow_is_that_of_diffusers_in_other_terms():
    """x / (1 - s) has the noise s / (1 - s) that models without a flow have."""
    now, after = 0.7, 0.4
    flow = FlowEulerAncestral()
    flow.set_timesteps(2)
    flow.timesteps, flow.sigmas = torch.tensor([700.0]), torch.tensor([now, after])
    other = diffusers.EulerAncestralDiscreteScheduler()
    other.set_timesteps(2)
    other.sigmas = torch.tensor([now / (1 - now), after / (1 - after)])
    other.timesteps, other.is_scale_input_called = torch.tensor([700.0]), True
    x, clean = torch.randn(2, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = (x - (1 - now) * clean) / now
    ours = flow.step(noise - clean, flow.timesteps[0], x, generator=seeded([1, 2]))[0]
    theirs = other.step(noise, other.timesteps[0], x / (1 - now), generator=seeded([1, 2]))
    torch.testing.assert_close(ours / (1 - after), theirs.prev_sample)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_all_flow_samplers_ask_the_model_at_the_same_timesteps(shift):
    """Within the 1 in 1000 that whole timesteps and the last level of a schedule differ by."""
    _, expected = sample("flow", "", 8, shift=shift)
    for name in NAMES:
        _, asked = sample("flow", name, 8, shift=shift)
        distinct = list(dict.fromkeys(asked))
        assert distinct == pytest.approx(expected, abs=4), name


def test_ddim_of_a_flow_is_eulers_method():
    """The claim that both names may stand for one class: first order DPM-Solver++ is DDIM."""
    ddim = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=1
    )
    euler = make_sampler("euler", ddim)
    ddim.set_timesteps(4)
    euler.set_timesteps(4)
    euler.sigmas, euler.timesteps = ddim.sigmas, ddim.timesteps.float()
    draw = torch.Generator().manual_seed(0)
    x = y = torch.randn(2, 4, 8, 8, generator=draw)
    for k in range(4):
        velocity = torch.randn(2, 4, 8, 8, generator=draw)
        x = ddim.step(velocity, ddim.timesteps[k], x).prev_sample
        y = euler.step(velocity, euler.timesteps[k], y).prev_sample
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_sampled_is_said():
    with pytest.raises(VesaliusError, match=r"'dpm'.*dpm\+\+2m"):
        make_sampler("dpm", own("epsilon"))
    with pytest.raises(VesaliusError, match=r"heun.*zero terminal SNR.*take dpm\+\+2m"):
        make_sampler("heun", own("v"))
