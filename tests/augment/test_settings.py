"""Every setting is checked at the door; what a step calls, its command line does, too."""

import shlex
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path

import pytest

from vesalius.augment import run, steps
from vesalius.augment.settings import AugmentSettings
from vesalius.augment.steps import STEPS
from vesalius.errors import VesaliusError
from vesalius.evaluate import run as evaluating
from vesalius.synthesize import engine, make_plan
from vesalius.train import run as training
from vesalius.utility import networks
from vesalius.utility import run as judging


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": ("best",)}, "no arm is called"),
        ({"arms": ("real",)}, "no arm uses synthetic"),
        ({"ratios": (0.0,)}, "not above 0"),
        ({"tune": "ful"}, "probe or full"),
        ({"side": 0}, "give 8 pixels"),
        ({"seeds": 0}, "seeds is 0"),
        ({"classifier_steps": 1}, "give 10 or more"),
        ({"method": "magic"}, "choose one of"),
        ({"dtype": "float8"}, "choose one of auto, float32"),
        ({"method": "none", "images_seen": 16}, "trains nothing"),
        ({"balance": True, "per_class": 2}, "exclude each other"),
        ({"per_class": -1}, "per-class"),
        ({"steps": 0}, "steps"),
        ({"guidance": float("nan")}, "guidance"),
        ({"samples": -1}, "samples"),
    ],
)
def test_settings_are_checked_at_the_door(changes, said):
    with pytest.raises(VesaliusError, match=said):
        AugmentSettings(**changes)


class Called(SystemExit):
    """Stops a stage when it is called."""


# not what decides the result
FREE = {"session", "command", "progress"}


def plain(value):
    """What decides the result of a call."""
    if is_dataclass(value):
        names = {field.name for field in fields(value)} - {"device", "overwrite"}
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


@pytest.fixture
def stage_calls(monkeypatch):
    """Each stage replaced by one that only remembers what it was called with."""
    made = []
    for module, name in (
        (training, "train_recipe"),
        (make_plan, "plan_from_pairs"),
        (engine, "synthesize"),
        (evaluating, "evaluate"),
        (judging, "utility"),
    ):

        def remembered(*arguments, _signature=signature(getattr(module, name)), **options):
            bound = _signature.bind(*arguments, **options).arguments
            kept = {k: v for k, v in bound.items() if k not in FREE and not k.startswith("on_")}
            made.append({k: plain(v) for k, v in kept.items() if v is not None})
            raise Called

        monkeypatch.setattr(module, name, remembered)
    return made


CHANGES = {
    "lora": {},
    "full": {"tune": "full", "side": 16, "guidance": 2.0, "dtype": "float32"},
    "textual-inversion": {"arms": (), "allow_unproven": True, "per_class": None, "balance": True},
    "none": {"images_seen": None, "overrides": (), "ratio": 0.5, "per_class": None},
}


@pytest.mark.parametrize("method", CHANGES)
def test_a_command_line_does_what_its_step_does(
    method, straight, pairs, quick, stage_calls, monkeypatch, run_cli, tmp_path
):
    monkeypatch.setattr(networks, "find_network", lambda name: None)
    settings = quick(method=method, learned_from=(str(pairs),), **CHANGES[method])
    _, base = run._identify(pairs, settings, download=False)
    chosen = run._prepare(pairs, settings, base).chosen()
    job = run._job(pairs, straight[0], settings, base, chosen)
    monkeypatch.setattr(steps, "_check_made", lambda made: None)
    for step in STEPS[1:]:
        action = step.action(job)
        if not action.line:
            assert (step.name, method) == ("train", "none")
            continue
        with pytest.raises(Called):
            action.run()
        words = shlex.split(action.line)[1:]
        if step.name == "plan":  # the one that looks at --out before its stage is called
            words[words.index("--out") + 1] = str(tmp_path / "plan.csv")
        run_cli(*words)
        assert len(stage_calls) == 2, action.line
        assert stage_calls.pop() == stage_calls.pop(), action.line
