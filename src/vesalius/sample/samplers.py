"""Samplers by name, each a diffusers scheduler made from the model's own.

A model that was trained with noise on a straight line (rectified flow) is sampled by the flow form
of the same method. What was trained stays as it is: the noise schedule and what is predicted.
"""

from typing import Any

from vesalius.errors import VesaliusError

# name: (class, its settings; class for a flow, its settings)
_DPM = {"solver_order": 2, "algorithm_type": "dpmsolver++"}
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
_SAMPLERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}, "FlowMatchEulerDiscreteScheduler", {}),
    "dpm++2m": (
        "DPMSolverMultistepScheduler",
        _DPM,
        "DPMSolverMultistepScheduler",
        _DPM | _FLOW,
    ),
    "unipc": ("UniPCMultistepScheduler", {}, "UniPCMultistepScheduler", _FLOW),
    "euler": ("EulerDiscreteScheduler", {}, "FlowMatchEulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}, "FlowMatchHeunDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}, "", {}),
}
NAMES = tuple(_SAMPLERS)


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is for a model that predicts the velocity of a straight line."""
    config = scheduler.config
    return "FlowMatch" in type(scheduler).__name__ or bool(config.get("use_flow_sigmas"))


def make_sampler(name: str, scheduler: Any) -> Any:
    """The scheduler called `name` for a model whose own is `scheduler`; an empty name is its own.

    Raises VesaliusError for an unknown name and for a method that a flow has no form of.
    """
    if not name:
        return scheduler
    if name not in _SAMPLERS:
        raise VesaliusError(f"no sampler is called {name!r}: choose one of {', '.join(NAMES)}")
    import diffusers

    kind, settings, flow_kind, flow_settings = _SAMPLERS[name]
    if not is_flow(scheduler):
        return getattr(diffusers, kind).from_config(scheduler.config, **settings)
    if not flow_kind:
        raise VesaliusError(f"{name} has no form for this model, a rectified flow: take euler")
    config = {k: v for k, v in scheduler.config.items() if k in ("num_train_timesteps",)}
    shift = scheduler.config.get("shift", scheduler.config.get("flow_shift", 1.0))
    named = "shift" if "FlowMatch" in flow_kind else "flow_shift"
    return getattr(diffusers, flow_kind)(**config, **flow_settings, **{named: shift})
