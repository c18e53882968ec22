"""Noised latents and targets are those that the trainer uses, and that the scheduler samples by."""

from types import SimpleNamespace

import pytest
import torch

from vesalius.config import Objective
from vesalius.errors import VesaliusError
from vesalius.models.noising import is_flow, noised_at
from vesalius.train.objective import process_of

SHARES = (0.0, 0.2, 0.55, 0.999)


def schedulers():
    from diffusers import (
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        FlowMatchEulerDiscreteScheduler,
        PNDMScheduler,
    )

    v = {"prediction_type": "v_prediction"}
    return [
        PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        DDIMScheduler(**v, rescale_betas_zero_snr=True),
        DPMSolverMultistepScheduler(**v, beta_schedule="squaredcos_cap_v2"),
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        FlowMatchEulerDiscreteScheduler(),
    ]


@pytest.mark.parametrize("scheduler", schedulers(), ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("share", SHARES)
def test_as_in_training(scheduler, share):
    x, noise = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    config = {**scheduler.config, "_class_name": type(scheduler).__name__}
    process = process_of(config, Objective())
    t = torch.full((3,), share) if is_flow(scheduler) else torch.full((3,), int(1000 * share))
    x_t, target, timestep = noised_at(scheduler, x, noise, share)
    theirs = process.noised(x, noise, t)
    torch.testing.assert_close(x_t, theirs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(target, theirs[1], atol=1e-5, rtol=1e-5)
    assert timestep.expand(3).tolist() == pytest.approx(process.timestep(t).tolist())


def test_what_cannot_be_noised_is_told():
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(VesaliusError, match="below 1"):
        noised_at(schedulers()[0], x, x, 1.0)
    odd = SimpleNamespace(
        config=SimpleNamespace(get=lambda *_: "", prediction_type="odd", num_train_timesteps=10),
        alphas_cumprod=torch.ones(10),
    )
    with pytest.raises(VesaliusError, match="'odd'"):
        noised_at(odd, x, x, 0.5)
