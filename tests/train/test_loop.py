import copy
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vesalius.config import Optimisation
from vesalius.errors import VesaliusError
from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.loop import learning_rate, train, update_average
from vesalius.train.methods import generator, row_weights


class Line:
    """Fit a line to noisy points: the smallest method there is."""

    name = "line"

    def __init__(self, stop_at: int | None = None, poison_at: int | None = None):
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
        self.sources = ["a"] * 30 + ["b"] * 10
        self.x = torch.linspace(-1, 1, 40)[:, None]
        self.stop_at, self.poison_at, self.steps = stop_at, poison_at, 0

    def loss(self, rows, draw):
        self.steps += 1
        if self.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        x = self.x[rows]
        target = 2 * x + 0.1 * torch.randn(x.shape, generator=draw)
        loss = (self.module(x) - target).square().mean()
        return {"loss": loss * float("nan") if self.steps == self.poison_at else loss}

    def validate(self, module):
        with torch.no_grad():
            return {"loss": (module(self.x) - 2 * self.x).square().mean().item()}

    def save(self, module, folder):
        from safetensors.torch import save_file

        folder.mkdir()
        save_file(module.state_dict(), folder / "model.safetensors")


def plan(**changes):
    values = {
        "seen_images": 160,
        "batch": 8,
        "lr": 0.05,
        "decay_images": 40,
        "ema_half_life_images": 16,
        "validate_images": 40,
        "checkpoint_images": 80,
        "precision": "float32",
        "temperature": 0.5,
    }
    return Optimisation(**(values | changes))


def final_tensors(out):
    newest = newest_checkpoint(out / "checkpoints")
    assert newest is not None
    return load_file(newest / "state.safetensors")


def test_a_stopped_and_resumed_run_equals_a_straight_one_to_the_bit(tmp_path):
    straight = train(Line(), plan(), tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(Line(stop_at=7), plan(), tmp_path / "stopped")
    resumed = train(Line(), plan(), tmp_path / "stopped", resume=True)
    one, two = final_tensors(tmp_path / "straight"), final_tensors(tmp_path / "stopped")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    best, other = (load_file(p / "model.safetensors") for p in (straight, resumed))
    assert all(torch.equal(best[name], other[name]) for name in best)


def test_it_learns_logs_and_keeps_the_best(tmp_path):
    best = train(Line(), plan(seen_images=1600), tmp_path)
    events = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [event["validation"]["loss"] for event in events if "validation" in event]
    assert len(losses) == 40
    assert min(losses) < 0.1 * losses[0]
    rebuilt = Line()
    rebuilt.module.load_state_dict(load_file(best / "model.safetensors"))
    assert rebuilt.validate(rebuilt.module)["loss"] == pytest.approx(min(losses))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_finished_run_is_not_trained_again_and_not_overwritten(tmp_path):
    train(Line(), plan(), tmp_path)
    method = Line()
    train(method, plan(), tmp_path, resume=True)
    assert method.steps == 0
    with pytest.raises(VesaliusError, match="--resume"):
        train(Line(), plan(), tmp_path)


@pytest.mark.slow
def test_a_compiled_run_has_the_same_weights_by_name(tmp_path):
    train(Line(), plan(), tmp_path / "eager")
    train(Line(), plan(compile=True), tmp_path / "compiled")
    eager, compiled = final_tensors(tmp_path / "eager"), final_tensors(tmp_path / "compiled")
    assert eager.keys() == compiled.keys()
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-4, rtol=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    # a checkpoint falls due on the very step whose loss is poisoned: it must not be written
    with pytest.raises(VesaliusError, match="not finite"):
        train(Line(poison_at=5), plan(checkpoint_images=40), tmp_path)
    assert newest_checkpoint(tmp_path / "checkpoints") is None


def test_the_schedule_warms_up_stays_and_decays_to_zero():
    long = plan(seen_images=1000, warmup_images=80, decay_images=200)
    rates = [learning_rate(seen, long) for seen in range(0, 1001, 8)]
    assert rates[0] == pytest.approx(0.05 * 0.1)
    assert max(rates) == 0.05 == rates[50]
    assert rates[-1] == 0
    # cutting a run short changes nothing before the new decay begins
    short = plan(seen_images=800, warmup_images=80, decay_images=200)
    assert [learning_rate(s, short) for s in range(0, 600, 8)] == rates[:75]


def test_the_average_moves_half_way_in_a_half_life():
    module, average = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.ones_(module.weight)
    nn.init.zeros_(average.weight)
    before = copy.deepcopy(module.state_dict())
    for _ in range(4):
        update_average(average.requires_grad_(False), module, batch=8, half_life=32)
    assert average.weight.item() == pytest.approx(0.5)
    assert torch.equal(module.weight, before["weight"])


def test_sets_are_drawn_by_their_size_to_the_temperature():
    sources = ["big"] * 900 + ["small"] * 100
    for temperature, share in ((1.0, 0.1), (0.0, 0.5), (0.5, 0.25)):
        weights = row_weights(sources, temperature)
        assert (weights[900:].sum() / weights.sum()).item() == pytest.approx(share)


def test_generators_are_functions_of_their_parts():
    same = [torch.randn(3, generator=generator(0, "x", 8)) for _ in range(2)]
    other = torch.randn(3, generator=generator(0, "x", 16))
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], other)
