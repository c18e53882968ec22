"""Classifiers: what turns plans of training into probabilities, the same way for every arm.

`Probe` trains a linear layer or a small network on frozen features. All seeds and all strengths of
regularisation train at once, in one batched product a step, so that a grid of arms takes minutes on
a CPU. `vesalius.utility.finetune` trains whole networks behind the same interface.

How strong the regularisation is and when training stops is chosen by the AUROC of the real
validation images (equal ones: by their log loss), for each training by itself, from the same choices
for every arm: the search is a part of the recipe, and so of what a seed varies.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.utility.arms import Phase, Plan

L2 = (1e-5, 1e-4, 1e-3, 1e-2)
CHECKPOINTS = 8  # a training, at which it may stop
WARM_UP = 0.05  # of the steps of a phase


@dataclass(frozen=True)
class Trained:
    """What the trainings of an arm came to, one a seed."""

    validation: np.ndarray  # (S, n_val, C) probabilities
    test: np.ndarray  # (S, n_test, C)
    chosen: list[dict[str, float]]  # of each seed
    seconds: float


class Learner(Protocol):
    """Trains a classifier a plan; rows are those of one pool of images."""

    @property
    def about(self) -> dict[str, Any]:
        """Settings, as JSON."""
        ...

    def __call__(
        self,
        plans: Sequence[Plan],
        seeds: Sequence[int],
        validation: np.ndarray,
        test: np.ndarray,
    ) -> Trained:
        """Train plan s with seed s; choose on the rows `validation`, answer for the rows `test`."""
        ...


@dataclass
class Probe:
    """A linear layer, or with `hidden` one hidden layer, on features that are frozen."""

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
        return {
            "classifier": f"frozen backbone, {self.hidden} hidden"
            if self.hidden
            else "linear probe",
            "optimiser": "Adam, cosine, L2 in the loss",
            "steps": self.steps,
            "batch": self.batch,
            "lr": self.lr,
            "l2": list(self.l2),
            "stops": f"{CHECKPOINTS} within the last phase",
        }

    def __call__(
        self,
        plans: Sequence[Plan],
        seeds: Sequence[int],
        validation: np.ndarray,
        test: np.ndarray,
    ) -> Trained:
        """As `Learner`."""
        began = time.monotonic()
        shape = (len(self.l2), self.targets.shape[1])
        model = _Heads(*self._standard(plans), shape, self.hidden, seeds).to(self.device)
        y = torch.from_numpy(self.targets).float().to(self.device)

        def looked(rows: np.ndarray) -> Tensor:
            with torch.no_grad():
                x = self._take(self.features[rows]).expand(len(plans), -1, -1)  # (S, n, D)
                return as_probabilities(model(x), exclusive=self.exclusive)  # (S, n, L, C)

        best = _Best(len(plans), len(self.l2), model)
        decay = torch.tensor(list(self.l2), device=self.device)
        optimiser = torch.optim.Adam(model.parameters(), lr=self.lr)
        batches = [
            draws(plan, self.steps, self.batch, s) for plan, s in zip(plans, seeds, strict=True)
        ]
        stopping = stops(plans[0], self.steps)
        for step in range(self.steps):
            phase, rate, first = schedule(plans[0], step, self.steps)
            if first and step:  # fine-tuning starts with a fresh memory of gradients
                optimiser = torch.optim.Adam(model.parameters(), lr=self.lr)
            for group in optimiser.param_groups:
                group["lr"] = self.lr * rate
            rows = np.stack([each.rows[step] for each in batches])  # (S, B)
            x = self._batch(rows, plans[0].phases[phase], batches, step)
            weights = _weights([plan.phases[phase] for plan in plans], self.device)
            each = losses(model(x), y[rows], weights, exclusive=self.exclusive)  # (S, L)
            (each.sum() + 0.5 * (decay * model.squares()).sum()).backward()
            optimiser.step()
            optimiser.zero_grad()
            if step + 1 in stopping:
                value, loss = judged(looked(validation), self.targets[validation], self.exclusive)
                best.offer(step + 1, value, loss, model)
        strengths, told = best.restore(model)
        for each, strength in zip(told, strengths, strict=True):
            each["l2"] = float(self.l2[strength])

        def answers(rows: np.ndarray) -> np.ndarray:
            p = looked(rows).cpu().numpy()  # (S, n, L, C)
            return p[np.arange(len(p)), :, strengths]

        return Trained(answers(validation), answers(test), told, time.monotonic() - began)

    def _take(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)

    def _batch(
        self, rows: np.ndarray, phase: Phase, batches: Sequence["Draws"], step: int
    ) -> Tensor:
        x = self.features[rows]  # (S, B, D)
        if phase.views and self.views is not None and self.viewed is not None:
            # one of the views, or, as often as each of them, the image itself
            view = np.stack([each.views[step] for each in batches]) % (len(self.views) + 1)
            augmented = self.views[np.maximum(view - 1, 0), self.viewed[rows]]
            x = np.where(view[..., None] > 0, augmented, x)
        return self._take(x)

    def _standard(self, plans: Sequence[Plan]) -> tuple[Tensor, Tensor]:
        """Mean and deviation of what each training draws from, (S, 1, D).

        Scaled by sqrt(D) so that an image has about the length one: L2 then means the same for
        networks of any width.
        """
        means, scales = [], []
        for plan in plans:
            rows = np.concatenate([phase.rows for phase in plan.phases])
            chance = np.concatenate([phase.draw * phase.share for phase in plan.phases])
            x = self.features[rows].astype(np.float64)
            mean = chance @ x
            variance = np.maximum(chance @ np.square(x) - np.square(mean), 0)
            floor = 1e-2 * variance.mean() + 1e-12  # a feature that is always 0 stays small
            means.append(mean)
            scales.append(np.sqrt((variance + floor) * len(mean)))
        mean, scale = (torch.from_numpy(np.stack(v)[:, None]).float() for v in (means, scales))
        return mean, scale


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


class _Best:
    """The parameters at each training's best stop so far."""

    def __init__(self, seeds: int, strengths: int, model: _Heads) -> None:
        self.score = np.full((seeds, strengths), -np.inf)
        self.loss = np.full((seeds, strengths), np.inf)
        self.step = np.zeros((seeds, strengths), int)
        self.kept = {name: value.detach().clone() for name, value in model.named_parameters()}

    def offer(self, step: int, score: np.ndarray, loss: np.ndarray, model: _Heads) -> None:
        better = (score > self.score) | ((score == self.score) & (loss < self.loss))
        self.score, self.loss = (
            np.where(better, score, self.score),
            np.where(better, loss, self.loss),
        )
        self.step = np.where(better, step, self.step)
        for name, value in model.named_parameters():
            where = model.spread(name, torch.from_numpy(better).to(value.device))
            self.kept[name] = torch.where(where, value.detach(), self.kept[name])

    def restore(self, model: _Heads) -> tuple[list[int], list[dict[str, float]]]:
        """Put the best parameters back; which strength each seed chose, and where it stopped."""
        for name, value in model.named_parameters():
            value.data = self.kept[name]
        order = [int(np.lexsort((self.loss[s], -self.score[s]))[0]) for s in range(len(self.score))]
        told = [
            {"stopped": int(self.step[s, k]), "validation_auroc": float(self.score[s, k])}
            for s, k in enumerate(order)
        ]
        return order, told


@dataclass(frozen=True)
class Draws:
    """Which rows, and which view of each, the batches of a training hold."""

    rows: np.ndarray  # (steps, B)
    views: np.ndarray  # (steps, B)


def draws(plan: Plan, steps: int, batch: int, seed: int) -> Draws:
    """The batches of a training, drawn with replacement: a function of plan and seed alone."""
    rng = np.random.default_rng([seed, 2])
    uniform = rng.random((steps, batch))
    parts = []
    for start, stop, phase in spans(plan, steps):
        edges = np.cumsum(phase.draw)
        places = np.searchsorted(edges / edges[-1], uniform[start:stop], side="right")
        parts.append(phase.rows[np.minimum(places, len(phase.rows) - 1)])
    return Draws(np.concatenate(parts), rng.integers(0, 2**31, (steps, batch)))


def spans(plan: Plan, steps: int) -> list[tuple[int, int, Phase]]:
    """First step of each phase, the one behind its last, and the phase."""
    shares = np.cumsum([phase.share for phase in plan.phases])
    edges = [0, *np.rint(steps * shares / shares[-1]).astype(int).tolist()]
    return list(zip(edges[:-1], edges[1:], plan.phases, strict=True))


def schedule(plan: Plan, step: int, steps: int) -> tuple[int, float, bool]:
    """The phase of a step, its share of the learning rate (a cosine a phase), and whether it opens it."""
    for number, (start, stop, _) in enumerate(spans(plan, steps)):
        if start <= step < stop:
            place, whole = step - start, stop - start
            warm = min(1.0, (place + 1) / max(1, WARM_UP * whole))
            return number, warm * 0.5 * (1 + np.cos(np.pi * place / whole)), place == 0
    raise IndexError(step)


def stops(plan: Plan, steps: int) -> list[int]:
    """Steps after which a training may stop: within its last phase, denser at the start."""
    start, stop, _ = spans(plan, steps)[-1]
    shares = np.linspace(0, 1, CHECKPOINTS + 1)[1:] ** 2
    return sorted({start + max(1, round((stop - start) * share)) for share in shares})


def losses(logits: Tensor, y: Tensor, weights: Tensor | None, *, exclusive: bool) -> Tensor:
    """Mean over the batch of (S, B, L, C) against (S, B, C): (S, L). `weights` is (S, C)."""
    y = y[:, :, None]
    if exclusive:
        each = -(y * F.log_softmax(logits, -1)).sum(-1)  # (S, B, L)
        return (
            each.mean(1)
            if weights is None
            else (each * (y * weights[:, None, None]).sum(-1)).mean(1)
        )
    positive = y if weights is None else y * weights[:, None, None]
    each = -(positive * F.logsigmoid(logits) + (1 - y) * F.logsigmoid(-logits))
    return each.mean((1, 3))


def as_probabilities(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Softmax of classes, sigmoid of findings."""
    return logits.softmax(-1) if exclusive else logits.sigmoid()


def judged(p: Tensor, y: np.ndarray, exclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    """Macro AUROC and log loss of probabilities (S, n, L, C) for targets (n, C), each (S, L)."""
    values = p.detach().double().cpu().numpy()
    # sums of ranks; equal probabilities are so rare here that their order does not matter
    ranks = values.argsort(1, kind="stable").argsort(1, kind="stable") + 1
    areas = []
    for c in range(y.shape[1]):
        m = int(y[:, c].sum())
        if 0 < m < len(y):
            total = ranks[..., c][:, y[:, c] > 0].sum(1)
            areas.append((total - m * (m + 1) / 2) / (m * (len(y) - m)))
    likely = np.clip(values, 1e-12, 1 - 1e-12)
    at = y[None, :, None]
    if exclusive:
        loss = -(at * np.log(likely)).sum(-1).mean(1)
    else:
        loss = -(at * np.log(likely) + (1 - at) * np.log(1 - likely)).mean((1, 3))
    return np.round(np.mean(areas, 0), 9), loss


def _weights(phases: Sequence[Phase], device: str) -> Tensor | None:
    found = [phase.weights for phase in phases if phase.weights is not None]
    return torch.from_numpy(np.stack(found)).float().to(device) if found else None
