"""A linear layer or a small network on frozen features.

All seeds and all strengths of regularisation train at once, in one batched product a step, so that a
grid of arms takes minutes on a CPU.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.utility.curricula import Curriculum
from vesalius.utility.learner import Task, Trained, as_probabilities, fit
from vesalius.utility.schedule import CHECKPOINTS

L2 = (1e-5, 1e-4, 1e-3, 1e-2)


@dataclass
class Probe:
    """See `learner.Learner`; with `hidden` it has one hidden layer."""

    features: np.ndarray  # (P, D) float32
    targets: np.ndarray  # (P, C)
    exclusive: bool
    views: np.ndarray | None = None  # (V, n, D): augmented views of some images
    viewed: np.ndarray | None = None  # (P,): which of the n an image is
    steps: int = 1000
    batch: int = 64
    lr: float = 2e-2
    l2: Sequence[float] = L2
    hidden: int = 0
    device: str = "cpu"

    @property
    def about(self) -> dict[str, Any]:
        """Settings, as JSON."""
        hidden = f"frozen backbone, {self.hidden} hidden"
        return {
            "classifier": hidden if self.hidden else "linear probe",
            "optimiser": "Adam, cosine, L2 in the loss",
            "steps": self.steps,
            "batch": self.batch,
            "lr": self.lr,
            "l2": list(self.l2),
            "stops": f"{CHECKPOINTS} within the last phase",
        }

    def __call__(
        self,
        curricula: Sequence[Curriculum],
        seeds: Sequence[int],
        validation: np.ndarray,
        test: np.ndarray,
    ) -> Trained:
        """As `Learner`."""
        began = time.monotonic()
        shape = (len(self.l2), self.targets.shape[1])
        heads = _Heads(*self._standard(curricula), shape, self.hidden, seeds).to(self.device)
        trainee = _InTraining(self, heads)
        task = Task(self.targets, self.exclusive, self.steps, self.batch, self.lr, self.device)
        strengths, chosen = fit(trainee, task, curricula, seeds, validation)
        for each, strength in zip(chosen, strengths, strict=True):
            each["l2"] = float(self.l2[strength])
        p = trainee.answers(test).cpu().numpy()  # (S, n, L, C)
        return Trained(p[np.arange(len(p)), :, strengths], chosen, time.monotonic() - began)

    def _standard(self, curricula: Sequence[Curriculum]) -> tuple[Tensor, Tensor]:
        """Mean and deviation of what each training draws from, (S, 1, D).

        Scaled by sqrt(D) so that an image has about the length one: L2 then means the same for
        networks of any width.
        """
        means, scales = [], []
        for each in curricula:
            rows = np.concatenate([phase.rows for phase in each.phases])
            chance = np.concatenate([phase.draw * phase.share for phase in each.phases])
            x = self.features[rows].astype(np.float64)
            mean = chance @ x
            variance = np.maximum(chance @ np.square(x) - np.square(mean), 0)
            floor = 1e-2 * variance.mean() + 1e-12  # a feature that is always 0 stays small
            means.append(mean)
            scales.append(np.sqrt((variance + floor) * len(mean)))
        mean, scale = (torch.from_numpy(np.stack(v)[:, None]).float() for v in (means, scales))
        return mean, scale


class _InTraining:
    """The heads of a probe; see `learner.Trainee`."""

    def __init__(self, probe: Probe, heads: "_Heads") -> None:
        self.probe, self.heads = probe, heads
        self.decay = torch.tensor(list(probe.l2), device=probe.device)
        self.kept = {name: value.detach().clone() for name, value in heads.named_parameters()}

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.heads.parameters(), lr=self.probe.lr)

    def logits(self, rows: np.ndarray, views: np.ndarray | None) -> Tensor:
        x = self.probe.features[rows]  # (S, B, D)
        if views is not None and self.probe.views is not None and self.probe.viewed is not None:
            # one of the views, or, as often as each of them, the image itself
            view = views % (len(self.probe.views) + 1)
            augmented = self.probe.views[np.maximum(view - 1, 0), self.probe.viewed[rows]]
            x = np.where(view[..., None] > 0, augmented, x)
        return self.heads(self._tensor(x))

    def penalty(self) -> Tensor:
        return 0.5 * (self.decay * self.heads.squares()).sum()

    @torch.no_grad()
    def answers(self, rows: np.ndarray) -> Tensor:
        x = self._tensor(self.probe.features[rows]).expand(len(self.heads.bias), -1, -1)
        return as_probabilities(self.heads(x), exclusive=self.probe.exclusive)

    def keep(self, better: np.ndarray) -> None:
        for name, value in self.heads.named_parameters():
            where = self.heads.spread(name, torch.from_numpy(better).to(value.device))
            self.kept[name] = torch.where(where, value.detach(), self.kept[name])

    def restore(self) -> None:
        for name, value in self.heads.named_parameters():
            value.data = self.kept[name]

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.probe.device)


class _Heads(nn.Module):
    """Heads of S seeds and L strengths of L2: (S, B, D) -> (S, B, L, C).

    They see (x - mean) / scale, which costs less on the weights than on the images.
    """

    def __init__(
        self,
        mean: Tensor,
        scale: Tensor,
        shape: tuple[int, int],
        hidden: int,
        values: Sequence[int],
    ) -> None:
        super().__init__()
        seeds, _, dims = mean.shape
        strengths, classes = self.shape = shape
        self.hidden = hidden
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", mean / scale)
        self.register_buffer("scale", scale.transpose(1, 2))  # (S, D, 1)
        if hidden:
            start = [
                torch.randn(dims, hidden, generator=torch.Generator().manual_seed(value))
                for value in values
            ]
            self.first = nn.Parameter(torch.stack(start).repeat(1, 1, strengths))  # (S, D, L H)
            self.shift = nn.Parameter(torch.zeros(seeds, 1, strengths * hidden))
            self.weight = nn.Parameter(torch.zeros(seeds, strengths, hidden, classes))
        else:  # a linear head starts at zero: its only chance is in the batches
            self.weight = nn.Parameter(torch.zeros(seeds, dims, strengths * classes))
        self.bias = nn.Parameter(torch.zeros(seeds, 1, strengths, classes))

    def forward(self, x: Tensor) -> Tensor:
        if not self.hidden:
            return self._project(x, self.weight).unflatten(2, self.shape) + self.bias
        x = F.relu(self._project(x, self.first) + self.shift)  # (S, B, L H)
        x = x.unflatten(2, (self.shape[0], self.hidden)).transpose(1, 2)  # (S, L, B, H)
        return (x @ self.weight).transpose(1, 2) + self.bias

    def _project(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.baddbmm(-(self.mean @ weight), x, weight / self.scale)

    def squares(self) -> Tensor:
        """Of the weights, (S, L)."""
        if not self.hidden:
            return self.weight.unflatten(2, self.shape).square().sum((1, 3))
        inner = self.first.unflatten(2, (self.shape[0], self.hidden))
        return self.weight.square().sum((2, 3)) + inner.square().sum((1, 3)) / len(inner[0])

    def spread(self, name: str, of: Tensor) -> Tensor:
        """(S, L) laid out as the parameter `name` is, to choose parts of it by."""
        if name in ("first", "shift") or (name == "weight" and not self.hidden):  # (S, ., L .)
            width = self.get_parameter(name).shape[2] // self.shape[0]
            return of.repeat_interleave(width, 1)[:, None]
        return of[:, :, None, None] if name == "weight" else of[:, None, :, None]
