"""The smallest method there is, for tests of the loop: fit a line to noisy points.

As a program it trains each of several plans in a folder of its own, to be run by torchrun or to be
killed: `line_method.py FOLDER PLANS [kill-in-step]`, where PLANS is JSON, name -> plan.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vesalius.config import Optimisation
from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.distributed import join
from vesalius.train.loop import train
from vesalius.train.method import Method
from vesalius.train.session import Session


class Net(nn.Module):
    """A frozen layer, then trained ones with dropout, whose draws are nobody's argument."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(1, 4).requires_grad_(False)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2))
        self.dropout = nn.Dropout(0.1)
        self.last = nn.Linear(4, 1)

    def forward(self, x):
        x = self.frozen(x)
        for block in self.blocks:
            x = block(x)
        return self.last(self.dropout(x))


class Line(Method):
    name = "line"

    def __init__(self, stop_at=None, poison_at=None, kill_at=None):
        torch.manual_seed(0)
        self.module = Net()
        self.row_weights = torch.tensor([1.0] * 30 + [2.0] * 10, dtype=torch.float64)
        self.x = torch.linspace(-1, 1, 40)[:, None]
        self.stop_at, self.poison_at, self.kill_at = stop_at, poison_at, kill_at
        self.steps = 0

    def loss(self, rows, draw):
        self.steps += 1
        if self.steps == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.steps == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        x = self.x[rows]
        target = 2 * x + 0.1 * torch.randn(x.shape, generator=draw)
        loss = (self.module(x) - target).square().mean()
        return {"loss": loss * float("nan") if self.steps == self.poison_at else loss}

    def validate(self, module):
        with torch.no_grad():
            return {"loss": (module(self.x) - 2 * self.x).square().mean().item()}

    def save(self, module, folder):
        folder.mkdir()
        save_file(module.state_dict(), folder / "model.safetensors")


def plan(**changes):
    values = {
        "seen_images": 160,
        "batch": 8,
        "lr": 0.05,
        "decay_images": 40,
        "ema_half_life_images": [16, 64],
        "validate_images": 40,
        "checkpoint_images": 80,
        "precision": "float32",
    }
    return Optimisation(**(values | changes))


def final_tensors(out):
    """All tensors of the newest checkpoint: weights, averages, optimiser state."""
    newest = newest_checkpoint(out / "checkpoints")
    return load_file(newest.path / "state.safetensors")


def events(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out):
    """The training losses and gradient norms that were logged."""
    return [(event["loss"], event["norm"]) for event in events(out) if "norm" in event]


def main(folder, plans, kill_at=None):
    torch.set_num_threads(1)
    join("cpu")
    for name, changes in json.loads(plans).items():
        kind = changes.pop("distributed", "ddp")
        method = Line(kill_at=int(kill_at) if kill_at else None)
        train(method, plan(**changes), Path(folder) / name, Session(resume=True), distributed=kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
