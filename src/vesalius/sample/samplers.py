"""Samplers by name, each a diffusers scheduler made from the model's own.

A model that was trained with noise on a straight line (rectified flow) is sampled by the flow form
of the same method. What was trained stays as it is: the noise schedule and what is predicted.
"""

from typing import Any

from vesalius.errors import VesaliusError

_FIRST_ORDER = {"solver_order": 1, "algorithm_type": "dpmsolver++"}
_DPM = {"solver_order": 2, "algorithm_type": "dpmsolver++"}
_UNIPC = {"solver_order": 2}
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
# name: (diffusers' class, its settings; class for a flow, our own where it begins with Flow, its)
_SAMPLERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}, "FlowEuler", {}),  # for a flow the same step
    "dpm++2m": ("DPMSolverMultistepScheduler", _DPM, "DPMSolverMultistepScheduler", _DPM | _FLOW),
    "unipc": ("UniPCMultistepScheduler", _UNIPC, "UniPCMultistepScheduler", _UNIPC | _FLOW),
    "euler": ("EulerDiscreteScheduler", {}, "FlowEuler", {}),
    "heun": ("HeunDiscreteScheduler", {}, "FlowHeun", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}, "FlowEulerAncestral", {}),
}
NAMES = tuple(_SAMPLERS)


def check_sampler(name: str) -> None:
    """Raise VesaliusError unless `name` is one of `NAMES`, or empty for the model's own."""
    if name and name not in _SAMPLERS:
        raise VesaliusError(f"no sampler is called {name!r}: choose one of {', '.join(NAMES)}")


def make_sampler(name: str, scheduler: Any) -> Any:
    """The scheduler called `name` for a model whose own is `scheduler`; an empty name is its own.

    Raises VesaliusError for an unknown name, and for heun where the schedule ends in pure noise.
    """
    check_sampler(name)
    if not name:
        return scheduler
    import diffusers

    from vesalius.models.noise_process import is_flow

    kind, settings, flow_kind, flow_settings = _SAMPLERS[name]
    config = scheduler.config
    if is_flow(scheduler):
        return _flow_sampler(flow_kind, flow_settings, config)
    if name == "heun" and config.get("rescale_betas_zero_snr"):
        # Diffusers' class does not know such schedules. Given the betas it steps down from a sigma
        # of 4,096, and the mean of two slopes over that distance is nonsense below ten steps.
        raise VesaliusError("heun has no form for a model with zero terminal SNR: take dpm++2m")
    if name == "ddim" and config.get("timestep_spacing", "leading") != "leading":
        # Diffusers' class goes down by 1000 // steps whatever the spacing, so with 30 steps that
        # are spaced by 33.3 it leaves noise. First order of DPM-Solver++ is DDIM (Lu et al. 2022).
        kind, settings = "DPMSolverMultistepScheduler", _FIRST_ORDER
    return getattr(diffusers, kind).from_config(config, **settings)


def _flow_sampler(kind: str, settings: dict[str, Any], config: Any) -> Any:
    """A flow's sampler with the shift of the noise levels, which has two names in diffusers."""
    shift = config.get("shift", config.get("flow_shift", 1.0))
    steps = config["num_train_timesteps"]
    if kind.startswith("Flow"):
        from vesalius.sample import flow

        return getattr(flow, kind)(num_train_timesteps=steps, shift=shift)
    import diffusers

    return getattr(diffusers, kind)(num_train_timesteps=steps, flow_shift=shift, **settings)
