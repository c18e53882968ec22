"""Latents noised as a model's scheduler says, and what its denoiser should then predict."""

from typing import Any

from torch import Tensor

from vesalius.errors import VesaliusError


def is_flow(scheduler: Any) -> bool:
    """Whether a diffusers scheduler describes rectified flow."""
    kind = scheduler.config.get("prediction_type", "")
    return kind == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch")


def noised_at(
    scheduler: Any, x: Tensor, noise: Tensor, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents `x` (N, C, h, w) noised `share` of the way, 0 to 1: x_t, target, timestep ().

        flow:      x_t = (1 - t) x + t e,                    target e - x,    timestep 1000 t
        diffusion: x_t = sqrt(a_t) x + sqrt(1 - a_t) e,      target e, or v = sqrt(a_t) e
                   - sqrt(1 - a_t) x, or x itself, by `prediction_type`; t = floor(T share)

    Raises VesaliusError for a share outside of [0, 1) and a prediction that is none of these.
    """
    if not 0 <= share < 1:
        raise VesaliusError(f"a time is from 0, no noise, to below 1, not {share}")
    steps = int(scheduler.config.num_train_timesteps)
    if is_flow(scheduler):
        return (1 - share) * x + share * noise, noise - x, x.new_tensor(share * steps)
    kind, index = scheduler.config.prediction_type, int(steps * share)
    a = scheduler.alphas_cumprod[index].to(x)
    signal, spread = a.sqrt(), (1 - a).sqrt()
    targets = {"epsilon": noise, "sample": x, "v_prediction": signal * noise - spread * x}
    if kind not in targets:
        raise VesaliusError(f"what a model with prediction_type {kind!r} predicts is not known")
    return signal * x + spread * noise, targets[kind], x.new_tensor(index).long()
